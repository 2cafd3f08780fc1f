//! What the black-box tests share: servers under test, services, fixtures. No scenario here.
