//! What serialization needs and no type of its own says.

/// Whether a field is left out of the text: what reads it takes the default for it.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
