//! Published drafts that are algorithms of their own, beside the engine's: each takes the place of some procedures while the
//! guard that stands for the engine's way is removed. They are here to be caught.

pub mod delayed_rotation;
