//! The order of keys in the objects read so far.
//!
//! Owns: the position that a key probably has. Must not know: the names of keys.

/// The order of the keys of one object that repeats in each hit.
///
/// A server prints the fields of a hit in the order of a hash table: the same in each hit, but not the requested one.
/// So the key that followed another one in the hit before probably follows it again.
pub(crate) struct KeyOrder {
    /// The position that followed each position. Those of first keys are at 0, and of position `n` at `n + 1`.
    followers: Vec<usize>,
}

impl KeyOrder {
    /// Returns the order of `keys` keys before any object is read.
    pub(crate) fn new(keys: usize) -> Self {
        Self { followers: (0..=keys).collect() }
    }

    /// Returns the position that `find` returns. `find` gets the position that is expected after `previous`, which may
    /// be one past the last.
    pub(crate) fn follow(
        &mut self,
        previous: Option<usize>,
        find: impl FnOnce(usize) -> Option<usize>,
    ) -> Option<usize> {
        let follower = &mut self.followers[previous.map_or(0, |previous| previous + 1)];
        let position = find(*follower)?;
        *follower = position;
        Some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_expected_after_the_key_that_it_followed() {
        let mut order = KeyOrder::new(3);
        let mut expected_in = |keys: [usize; 3]| {
            let (mut previous, mut expected) = (None, Vec::new());
            for key in keys {
                previous = order.follow(previous, |hint| {
                    expected.push(hint);
                    Some(key)
                });
            }
            expected
        };
        assert_eq!(expected_in([2, 0, 1]), [0, 3, 1]);
        assert_eq!(expected_in([2, 0, 1]), [2, 0, 1]);
        assert_eq!(expected_in([0, 1, 2]), [2, 1, 2]);
        assert_eq!(order.follow(None, |_| None), None);
        assert_eq!(order.follow(None, Some), Some(0), "a key that is not found changes nothing");
    }
}
