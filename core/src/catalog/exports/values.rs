//! Values that several tools write alike.

use super::super::description::Labels;
use super::super::input::Filter;

/// Labels by number, as texts: `{"0": "crane", "1": "hen"}`.
pub(super) fn numbered(
    labels: impl IntoIterator<Item = (String, String)>,
) -> Result<Labels, String> {
    let mut numbered = Vec::new();
    for (number, label) in labels {
        let number: usize = number
            .parse()
            .map_err(|_| format!("label `{label}` has no number, but `{number}`"))?;
        numbered.push((number, label));
    }
    numbered.sort();
    if numbered
        .iter()
        .enumerate()
        .any(|(at, (number, _))| at != *number)
    {
        return Err("its labels are not numbered from 0 without gaps".to_owned());
    }
    Ok(Labels::Listed(
        numbered.into_iter().map(|(_, label)| label).collect(),
    ))
}

/// A filter by the name that Pillow and timm have for it.
pub(super) fn filter(name: &str) -> Result<Filter, String> {
    match name {
        "nearest" => Ok(Filter::Nearest),
        "bilinear" => Ok(Filter::Bilinear),
        "bicubic" => Ok(Filter::Bicubic),
        "lanczos" => Ok(Filter::Lanczos),
        other => Err(format!("the filter `{other}` is not supported")),
    }
}
