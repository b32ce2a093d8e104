//! Calls into a library that panics over input it did not expect. The panic becomes an error in its own words and
//! prints nothing. What would end the process (memory, stack) no guard can catch: `file` refuses it before.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is expected, and will be an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// The result of a job, or the words of its panic.
///
/// # Errors
/// The job panics; what it worked on must not be used again.
pub(super) fn guarded<T>(job: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                loud(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(job));
    GUARDED.set(before);
    result.map_err(|payload| words(payload.as_ref()))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a broken invariant").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_in_its_own_words() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| panic!("no {}", "way")), Err::<(), _>("no way".into()));
        assert_eq!(guarded(|| panic!("plain")), Err::<(), _>("plain".into()));
    }
}
