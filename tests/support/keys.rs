//! The secrets of the tests: API keys, whose hashes `tests/fixtures/api-keys` has, and that of webhooks.

use crate::program::project;
use crate::settings::Settings;

/// An ordinary client's.
pub const ANN: &str = "selvage_test-key-of-ann";
/// Another's.
pub const BOB: &str = "selvage_test-key-of-bob";
/// An admin's.
pub const OPS: &str = "selvage_test-key-of-ops";

/// One that no gateway knows: a client's mistake.
pub const STRAY: &str = "selvage_test-key-of-nobody";
/// What webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// All that may never stand in a log, whatever a program is started with.
pub const SECRETS: [&str; 5] = [ANN, BOB, OPS, STRAY, WEBHOOK_SECRET];

/// A deployment that needs keys; its own clients show [`ANN`].
#[must_use]
pub fn guarded() -> Settings {
    keys_in("api-keys", ANN)
}

/// A deployment where [`ANN`] may ask ten times an hour; its own clients show [`OPS`].
#[must_use]
pub fn limited() -> Settings {
    keys_in("api-keys-with-rates", OPS)
}

fn keys_in(file: &str, key: &'static str) -> Settings {
    let file = project().join("tests/fixtures").join(file);
    let mut settings = Settings::default().with("SELVAGE_API_KEYS", file.display());
    settings.key = Some(key);
    settings
}
