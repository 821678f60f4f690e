//! How much a chart may ask for: what it does is counted, so that no template runs for ever or fills the memory.
//!
//! A chart is rendered in a thread of its own, and the count is that thread's.

use std::cell::Cell;

/// One chart gets this many units; a byte of text is one.
pub const MOST: u64 = 1 << 29;
/// What a step of a template costs.
pub const STEP: usize = 64;
/// What a value costs that is made, written or compared.
pub const VALUE: usize = 16;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(MOST) };
}

/// Starts to count anew.
pub fn begin(units: u64) {
    LEFT.set(units);
}

/// Takes units.
///
/// # Errors
/// Fails where there are not so many.
pub fn spend(units: usize) -> Result<(), String> {
    let left = LEFT.get().saturating_sub(u64::try_from(units).unwrap_or(u64::MAX));
    LEFT.set(left);
    if left == 0 { Err("the chart asks for more text and steps than any chart needs: does it come to an end?".to_owned()) } else { Ok(()) }
}
