//! The command: parses arguments, starts `cli`, turns its error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    bound_arenas();
    sealift::cli::main()
}

/// Limits glibc's allocator to two arenas for all threads. By default each thread has its own, and keeps what is freed in it: with a
/// tree of 34,000 files that doubles the memory of a build.
#[cfg(target_env = "gnu")]
// mallopt is safe to call while there is but one thread, and nothing else reaches this setting
#[allow(unsafe_code)]
fn bound_arenas() {
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

#[cfg(not(target_env = "gnu"))]
fn bound_arenas() {}
