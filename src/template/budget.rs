//! The limit on a template's work: what it does is counted, so that none runs for ever or fills the memory.
//!
//! A rendering runs in a thread of its own, and the count is that thread's.

use std::cell::Cell;

/// The units that one rendering may use; a byte of text is one.
pub const LIMIT: u64 = 1 << 29;
/// What a step of a template costs, in units.
pub const STEP: usize = 64;
/// What it costs to make, write or compare a value, in units.
pub const VALUE: usize = 16;

/// Templates may call each other deeply: they get a stack of this many bytes, of which only what is used is taken.
const STACK: usize = 1 << 30;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(LIMIT) };
}

/// Runs a rendering with a stack and a count of its own.
///
/// # Errors
/// Fails with the message of the rendering, and where it panics.
pub fn run<T: Send>(units: u64, rendering: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            LEFT.set(units);
            rendering()
        });
        let thread = thread.map_err(|error| format!("no thread to render templates in: {error}"))?;
        thread.join().unwrap_or_else(|_| Err("the template engine panicked: this is a bug in sealift".to_owned()))
    })
}

/// Takes units from what is left.
///
/// # Errors
/// Fails where fewer are left.
pub fn spend(units: usize) -> Result<(), String> {
    let left = LEFT.get().saturating_sub(u64::try_from(units).unwrap_or(u64::MAX));
    LEFT.set(left);
    if left == 0 { Err("the limit on steps and output is reached: does a loop or a recursion never end?".to_owned()) } else { Ok(()) }
}
