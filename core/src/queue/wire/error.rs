//! What can be wrong with a message.

/// Why bytes are no message, or a message cannot become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written by a newer build, or garbage.
    #[error("version {0} of the message is not known")]
    Version(u8),
    /// Not one of ours, or not of the kind that was asked for.
    #[error("the message is not of this kind")]
    Kind,
    /// The bytes end within an entry.
    #[error("the message is cut off")]
    Cut,
    /// Bytes are left over after the last entry.
    #[error("the message is longer than it says")]
    Trailing,
    /// It carries nothing.
    #[error("the message is empty")]
    Empty,
    /// A field holds what it may not hold.
    #[error("the message's {0} is malformed")]
    Malformed(&'static str),
    /// A field or the number of entries does not fit its length prefix.
    #[error("the message's {0} is too long")]
    TooLong(&'static str),
}
