//! State that outlives a crash: whoever can be serialised has it for nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most that a snapshot may make a reader set aside, in bytes.
const SIZE_MAX: usize = 256 << 20;

/// State that can be taken out as bytes and put back, so that its owner's successor goes on exactly as
/// its owner would have.
///
/// Everything with serde's `Serialize` and `Deserialize` has it: derive both, and there is nothing to
/// write. The bytes are [bincode](https://github.com/bincode-org/bincode) 2.0.1's standard
/// configuration, which keeps the bits of floats. It says nothing about itself, so serde's `flatten`,
/// `untagged` and `skip_serializing_if` do not work with it; and equal states have equal bytes only
/// where iteration has an order: hold a `BTreeMap`, not a `HashMap`. Implement it by hand for bytes of
/// your own.
pub trait Snapshot {
    /// Everything there is to remember.
    ///
    /// # Panics
    ///
    /// When the owner's `Serialize` fails; derived ones do not, but for what is said above.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes over the state that `bytes` from [`snapshot`](Snapshot::snapshot) hold.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes, in words; then nothing has changed.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), String>;
}

impl<T: Serialize + DeserializeOwned> Snapshot for T {
    fn snapshot(&self) -> Vec<u8> {
        bincode::serde::encode_to_vec(self, format())
            .unwrap_or_else(|error| panic!("{} has no bytes: {error}", std::any::type_name::<T>()))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (state, read) = bincode::serde::decode_from_slice(bytes, format())
            .map_err(|error| format!("no {}: {error}", std::any::type_name::<T>()))?;
        if read != bytes.len() {
            let count = bytes.len() - read;
            return Err(format!("{count} bytes after a {}", std::any::type_name::<T>()));
        }
        *self = state;
        Ok(())
    }
}

/// The one configuration, so that no reader forgets the limit.
fn format() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<SIZE_MAX>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct State {
        last: f64,
        count: Option<u32>,
        names: BTreeMap<String, Vec<i64>>,
    }

    fn state() -> State {
        let names = BTreeMap::from([("b".to_owned(), vec![-1, 2]), ("a".to_owned(), vec![])]);
        State { last: -0.0, count: Some(7), names }
    }

    #[test]
    fn a_state_comes_back_with_every_bit() {
        let mut restored = State::default();
        restored.restore(&state().snapshot()).unwrap();
        assert_eq!(restored, state());
        assert_eq!(restored.snapshot(), state().snapshot());
        for bits in [f64::NAN.to_bits() | 1, (-0.0_f64).to_bits(), f64::MIN_POSITIVE.to_bits() >> 3]
        {
            let mut number = 0.0;
            number.restore(&f64::from_bits(bits).snapshot()).unwrap();
            assert_eq!(f64::to_bits(number), bits);
        }
    }

    #[test]
    fn bytes_of_something_else_are_refused_and_change_nothing() {
        let whole = state().snapshot();
        let mut longer = whole.clone();
        longer.push(0);
        // A name that claims 2^60 bytes: without the limit this does not fail but aborts.
        let mut huge = 0.0_f64.snapshot();
        huge.extend([0, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16]);
        for bytes in [&whole[..whole.len() - 1], &longer, &huge, &[]] {
            let mut state = state();
            let error = state.restore(bytes).unwrap_err();
            assert!(error.contains("State"), "{error}");
            assert_eq!(state, super::tests::state());
        }
    }
}
