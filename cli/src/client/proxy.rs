//! The proxy between this client and the server, if the environment names one.

use std::env;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// The proxy for that server, in words: its address without a password, and the variable that sets it.
pub(super) fn of(server: &Url) -> Option<String> {
    let target = server.as_str().parse().ok()?;
    let proxy = Matcher::from_env().intercept(&target)?;
    let scheme = format!("{}_proxy", server.scheme());
    let mut names = [
        scheme.to_uppercase(),
        scheme,
        "ALL_PROXY".to_owned(),
        "all_proxy".to_owned(),
    ]
    .into_iter();
    let variable = names.find(|name| env::var_os(name).is_some());
    Some(format!("{} ({})", proxy.uri(), variable?))
}
