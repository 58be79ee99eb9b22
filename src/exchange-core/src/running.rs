//! What a panic leaves behind: nobody can say what half of a change was done, so nobody goes on from there.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work panicked: what the panic said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(String);

impl Panicked {
    /// Return what was found, for people.
    pub(crate) fn detail(&self) -> String {
        format!("the core panicked: {}", self.0)
    }
}

/// Do work; a panic in it is an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Panicked(words_of(panic.as_ref()).to_owned()))
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}

/// A value until a change of it panics; from then on whoever asks for it gets that panic.
///
/// A panic of work that only reads, by `caught`, leaves the value as it was and may be followed by more.
pub(crate) struct Running<T> {
    value: T,
    panicked: Option<Panicked>,
}

impl<T> Running<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value, panicked: None }
    }

    pub(crate) fn get(&self) -> Result<&T, Panicked> {
        self.panicked.clone().map_or(Ok(&self.value), Err)
    }

    /// Return the value although a change of it may have panicked: for what a change writes last, once it is done.
    pub(crate) fn as_it_is(&self) -> &T {
        &self.value
    }

    pub(crate) fn change<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> Result<R, Panicked> {
        self.get()?;
        caught(|| work(&mut self.value)).inspect_err(|panic| self.panicked = Some(panic.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Panicked, Running, caught};

    #[test]
    fn a_value_whose_change_panicked_answers_every_call_with_that_panic() {
        let mut running = Running::new(vec![1]);
        assert_eq!(running.change(|value| value.push(2)), Ok(()));
        let first = running.change(|value| {
            value.push(3);
            assert!(value.is_empty(), "half of {} is done", value.len());
        });
        assert_eq!(first, Err(Panicked("half of 3 is done".to_owned())));
        assert_eq!(running.change(Vec::clear), first);
        assert_eq!(running.get().map(|_| ()), first);
        assert_eq!(*running.as_it_is(), [1, 2, 3], "nothing was done after the panic");
        assert_eq!(first.unwrap_err().detail(), "the core panicked: half of 3 is done");
    }

    #[test]
    fn a_panic_while_reading_changes_nothing() {
        let mut running = Running::new(1);
        let value = running.get().unwrap();
        assert_eq!(caught(|| assert_eq!(*value, 1)), Ok(()));
        assert_eq!(caught(|| std::panic::panic_any(*value)), Err(Panicked("without a word".to_owned())));
        assert_eq!(running.change(|value| std::mem::replace(value, 2)), Ok(1));
        assert_eq!(running.get(), Ok(&2));
    }
}
