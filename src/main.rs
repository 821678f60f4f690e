//! The command: parses arguments, starts `cli`, turns its error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    bound_arenas();
    sealift::cli::main()
}

/// Lets all threads share two arenas of the allocator. By default glibc gives each thread its own and keeps there what it frees, which a
/// tree of 34,000 files doubles the memory of a build by.
#[cfg(target_env = "gnu")]
// mallopt is safe to call while there is but one thread, and nothing else reaches this setting
#[allow(unsafe_code)]
fn bound_arenas() {
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

#[cfg(not(target_env = "gnu"))]
fn bound_arenas() {}
