//! Triton Inference Server: `config.pbtxt`, protobuf's text format, of the simple kind with one input and labels in a file.

use super::super::description::{Fields, InputFields, Labels, OutputFields};
use super::super::input::Layout;
use super::super::onnx_file::TensorInfo;

/// What `config.pbtxt` says of the model in `file`, whose folder is its version.
pub(super) fn fields(text: &str, file: &str) -> Result<Fields, String> {
    let mut words = words(text);
    words.reverse();
    let config = message(&mut words).filter(|_| words.is_empty());
    let config = config.ok_or("is not protobuf's text format")?;
    let inputs: Vec<&Message> = messages(&config, "input").collect();
    let [input] = inputs[..] else {
        return Err(format!(
            "input: {} inputs; an image classifier has one",
            inputs.len()
        ));
    };
    let output =
        messages(&config, "output").find(|output| text_of(output, "label_filename").is_some());
    let output = output.or_else(|| messages(&config, "output").next());
    let of_output = |name| {
        output
            .and_then(|output| text_of(output, name))
            .map(str::to_owned)
    };
    let name = text_of(&config, "name").map(str::parse).transpose();
    let batch = text_of(&config, "max_batch_size").and_then(|size| size.parse().ok());
    Ok(Fields {
        name: name.map_err(|error| format!("name: {error}"))?,
        version: file.split_once('/').map(|(version, _)| version.to_owned()),
        labels: of_output("label_filename").map(Labels::File),
        max_batch: batch.filter(|size| *size > 0),
        input: input_fields(input),
        output: OutputFields {
            name: of_output("name"),
            ..OutputFields::default()
        },
        ..Fields::default()
    })
}

/// The tensor's name, and its sides without the batch, which `dims` may leave out.
fn input_fields(input: &Message) -> InputFields {
    let mut dimensions = vec![None; 1];
    let sides: Vec<Option<u32>> = texts_of(input, "dims")
        .map(|side| side.parse().ok())
        .collect();
    dimensions.extend(sides.last_chunk::<3>().into_iter().flatten());
    let tensor = TensorInfo {
        dimensions,
        ..TensorInfo::default()
    };
    let fields = tensor.fields().unwrap_or_default();
    let layout = match text_of(input, "format") {
        Some("FORMAT_NHWC") => Some(Layout::Nhwc),
        Some("FORMAT_NCHW") => Some(Layout::Nchw),
        _ => fields.layout,
    };
    InputFields {
        name: text_of(input, "name").map(str::to_owned),
        layout,
        ..fields
    }
}

type Message = Vec<(String, Node)>;

enum Node {
    Text(String),
    Message(Message),
}

fn text_of<'m>(message: &'m Message, name: &'static str) -> Option<&'m str> {
    texts_of(message, name).next()
}

fn texts_of<'m>(message: &'m Message, name: &'static str) -> impl Iterator<Item = &'m str> {
    message.iter().filter_map(move |(field, node)| match node {
        Node::Text(text) if field == name => Some(text.as_str()),
        _ => None,
    })
}

fn messages<'m>(message: &'m Message, name: &'static str) -> impl Iterator<Item = &'m Message> {
    message.iter().filter_map(move |(field, node)| match node {
        Node::Message(message) if field == name => Some(message),
        _ => None,
    })
}

/// The fields up to the end of the message. `words` has the next word last.
fn message(words: &mut Vec<String>) -> Option<Message> {
    let mut fields = Vec::new();
    while words.last().is_some_and(|word| word != "}") {
        let name = words.pop()?;
        if matches!(name.as_str(), "," | ";") {
            continue;
        }
        words.pop_if(|word| word == ":");
        if words.pop_if(|word| word == "[").is_none() {
            fields.push((name, node(words)?));
            continue;
        }
        while words.pop_if(|word| word == "]").is_none() {
            fields.push((name.clone(), node(words)?));
            words.pop_if(|word| word == ",");
        }
    }
    Some(fields)
}

fn node(words: &mut Vec<String>) -> Option<Node> {
    let word = words.pop()?;
    if word != "{" {
        let is_mark = matches!(word.as_str(), "}" | "[" | "]" | ":" | "," | ";");
        return (!is_mark).then_some(Node::Text(word));
    }
    let message = message(words)?;
    words.pop()?;
    Some(Node::Message(message))
}

/// Names, numbers, texts without their quotes, and punctuation.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                let end = rest[1..].find(first).map_or(rest.len(), |at| at + 2);
                words.push(rest[1..end].trim_end_matches(first).to_owned());
                end
            }
            c if c.is_alphanumeric() || "_-+.".contains(c) => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && !"_-+.".contains(c));
                let end = end.unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                end
            }
            c => {
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        rest = &rest[end..];
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (wrong, word) in [
            ("input { name: \"a\"", "text format"),
            ("input [ { name: \"a\" } ] }", "text format"),
            ("}", "text format"),
            ("input: [", "text format"),
            ("platform: \"onnxruntime_onnx\"", "0 inputs"),
            ("input { name: \"a\" } input { name: \"b\" }", "2 inputs"),
            ("name: \"A B\" input { name: \"a\" }", "name"),
        ] {
            let problem = fields(wrong, "1/model.onnx").unwrap_err();
            assert!(problem.contains(word), "{wrong}: {problem}");
        }
    }

    #[test]
    fn the_output_with_labels_is_the_scores() {
        let text = "input { name: 'a' format: FORMAT_NHWC, dims: [ 8, 9, 3 ] } max_batch_size: 0
            output [ { name: \"features\" }, { name: \"scores\"; label_filename: \"l.txt\" } ] # the end";
        let fields = fields(text, "12/model.onnx").unwrap();
        assert_eq!(fields.output.name.as_deref(), Some("scores"));
        assert!(matches!(fields.labels, Some(Labels::File(file)) if file == "l.txt"));
        assert_eq!(
            (fields.version.as_deref(), fields.max_batch),
            (Some("12"), None)
        );
        let input = fields.input;
        assert_eq!(
            (input.layout, input.width, input.height),
            (Some(Layout::Nhwc), Some(9), Some(8))
        );
    }
}
