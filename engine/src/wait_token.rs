//! Tokens of waits as the server knows them: by their hash. Whoever reads a table, a log or an audit learns nothing.

use alloc::format;
use alloc::string::String;
use sha2::{Digest, Sha256};
use tourbillon_models::name::WaitToken;

/// What whoever emits shows.
pub fn text(token: WaitToken) -> String {
    format!("{:016x}", token.0)
}

/// What is kept of it: the SHA-256 of its text; none for none.
pub fn hash(token: WaitToken) -> Option<[u8; 32]> {
    (token != WaitToken::NONE).then(|| Sha256::digest(text(token)).into())
}

/// The beginning of a hash, which tells two tokens of a run apart.
pub fn abbreviated(hash: [u8; 32]) -> u64 {
    u64::from_be_bytes(hash[..8].try_into().expect("a hash is longer"))
}
