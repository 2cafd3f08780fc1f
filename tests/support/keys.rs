//! The API keys of the tests; `tests/fixtures/api-keys` has their hashes. None of them may ever stand in a log.

use crate::deployment::Settings;
use crate::program::project;

/// An ordinary client's.
pub const ANN: &str = "selvage_test-key-of-ann";
/// Another's.
pub const BOB: &str = "selvage_test-key-of-bob";
/// An admin's.
pub const OPS: &str = "selvage_test-key-of-ops";

/// A deployment that needs keys; its own clients show [`ANN`].
#[must_use]
pub fn guarded() -> Settings {
    let file = project().join("tests/fixtures/api-keys");
    let mut settings = Settings::default().with("SELVAGE_API_KEYS", file.display());
    settings.key = Some(ANN);
    settings
}
