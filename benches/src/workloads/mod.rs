//! What is timed.

pub mod accept;
pub mod build;
pub mod echo;
pub mod idle;
pub mod pipes;
pub mod register;
pub mod wake;

/// How thoroughly.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How often everybody has a turn.
    pub rounds: usize,
    /// A turn is this many times as long as the shortest that makes sense.
    pub length: usize,
}
