//! Ultralytics: metadata in the ONNX file itself.

use super::super::description::{Fields, InputFields, OutputFields};
use super::super::input::{Resize, Task};
use super::values::numbered;

/// What the metadata says; `None` where another tool wrote the file.
pub(super) fn fields(metadata: &[(String, String)]) -> Option<Result<Fields, String>> {
    let of = |name: &str| {
        metadata
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    Some(read(of("task")?, of("imgsz")?, of("names")?))
}

fn read(task: &str, size: &str, names: &str) -> Result<Fields, String> {
    let task = match task {
        "classify" => Task::Classify,
        "detect" => Task::Detect,
        other => {
            return Err(format!(
                "its metadata has the task `{other}`; `classify` and `detect` are supported"
            ));
        }
    };
    let sides: Vec<u32> =
        serde_json::from_str(size).map_err(|error| format!("metadata imgsz: {error}"))?;
    let [height, width] = sides[..] else {
        return Err(format!("metadata imgsz: `{size}` must be two numbers"));
    };
    let names = dictionary(names)
        .ok_or_else(|| "metadata names: must be a dictionary of texts".to_owned())?;
    Ok(Fields {
        labels: Some(numbered(names).map_err(|problem| format!("metadata names: {problem}"))?),
        task: Some(task),
        input: InputFields {
            width: Some(width),
            height: Some(height),
            scale: Some(1.0 / 255.0),
            ..geometry(task, width == height)
        },
        output: OutputFields {
            softmax: Some(false),
            ..OutputFields::default()
        },
        ..Fields::default()
    })
}

/// Detectors get their image on a grey background, scaled by OpenCV.
fn geometry(task: Task, is_square: bool) -> InputFields {
    let detects = task == Task::Detect;
    let resize = match (detects, is_square) {
        (true, _) => Resize::Fit,
        // torchvision's Resize scales the shortest side where it is given one number.
        (false, true) => Resize::ShortestSide,
        (false, false) => Resize::Stretch,
    };
    InputFields {
        resize: Some(resize),
        pad: detects.then(|| vec![114; 3]),
        antialias: detects.then_some(false),
        ..InputFields::default()
    }
}

/// A Python dictionary of texts by number, as `repr` writes it: `{0: 'crane', 1: "hen's"}`.
fn dictionary(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    let mut entries = Vec::new();
    while !rest.starts_with('}') {
        let (number, after) = rest.split_once(':')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| "'\"".contains(*c))?;
        let mut value = String::new();
        let mut characters = after[1..].char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => value.push(characters.next()?.1),
                (at, c) if c == quote => break at + 2,
                (_, c) => value.push(c),
            }
        };
        entries.push((number.trim().to_owned(), value));
        rest = after[end..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_either_quote_and_escapes() {
        let entries = dictionary(r#"{0: 'crane', 1: "hen's", 10: 'a\'b"\\', }"#).unwrap();
        let entries: Vec<(&str, &str)> = entries
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(entries, [("0", "crane"), ("1", "hen's"), ("10", "a'b\"\\")]);
        for wrong in [
            "",
            "{",
            "{0: crane}",
            "{0: 'crane",
            "['crane']",
            "{0: 'crane' 1",
        ] {
            assert_eq!(dictionary(wrong), None, "{wrong}");
        }
        assert_eq!(dictionary("{}"), Some(Vec::new()));
    }

    #[test]
    fn another_task_is_named() {
        let metadata = [
            ("task", "segment"),
            ("imgsz", "[640, 640]"),
            ("names", "{0: 'crane'}"),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let problem = fields(&metadata).unwrap().unwrap_err();
        assert!(problem.contains("`segment`"), "{problem}");
        assert!(fields(&metadata[1..]).is_none());
    }
}
