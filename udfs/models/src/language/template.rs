//! Chat templates: a model's own rule, in the Jinja language, for writing a conversation as one text.

use std::io::{self, Write};

use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use super::tokenizer::{GUARD, Tokens};
use crate::error::{Error, Result};

/// The longest template in bytes. Published ones have up to 10 KB.
const LONGEST: usize = 1 << 18;
/// Steps of a template; a message costs some tens.
const FUEL: u64 = 2_000_000;
/// The longest prompt in bytes.
const LONGEST_PROMPT: usize = 16 << 20;
const NAME: &str = "chat";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said, as data: names of special tokens in it do not become these tokens.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct Chat {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// What must not become a token in a message, longest first.
    special: Vec<String>,
}

impl Chat {
    /// Reads a template of this tokenizer's model.
    pub(crate) fn new(object: &str, template: &str, tokens: &Tokens) -> Result<Self> {
        if template.len() > LONGEST {
            return Err(Error::unsupported(object, format!("its chat template has {} bytes, more than {LONGEST}", template.len())));
        }
        let mut environment = Environment::new();
        // As transformers does.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let added = environment.add_template_owned(NAME, template.to_owned());
        added.map_err(|error| Error::unsupported(object, format!("its chat template cannot be read: {}", plain(&error))))?;
        let name = |id: Option<u32>| id.map(|id| tokens.name(id)).unwrap_or_default();
        let special = tokens.special_texts().map(str::to_owned).collect();
        Ok(Self { environment, bos: name(tokens.bos()), eos: name(tokens.eos().first().copied()), special })
    }

    /// The conversation as a prompt for [`Tokens::encode`]; with `add_generation_prompt` it ends where the assistant speaks.
    ///
    /// Where a message holds the name of a special token, an invisible character is put into it so that it stays text.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Message> =
            messages.iter().map(|m| Message { role: self.guarded(&m.role), content: self.guarded(&m.content) }).collect();
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        let values = context! {
            messages, add_generation_prompt, bos_token => self.bos, eos_token => self.eos, tools => Value::from(()), documents => Value::from(()),
        };
        let mut prompt = Bounded(Vec::new());
        template.render_captured_to(values, &mut prompt).map_err(|error| failed(&error))?;
        String::from_utf8(prompt.0).map_err(|_| Error::data("the chat template wrote what is no text", "use another model"))
    }

    /// The text with a [`GUARD`] after the first character of each special token's name, and none elsewhere.
    fn guarded(&self, text: &str) -> String {
        let mut text = text.replace(GUARD, "");
        for name in self.special.iter().filter(|name| !name.is_empty()) {
            if text.contains(name.as_str()) {
                let first = name.chars().next().map_or(0, char::len_utf8);
                text = text.replace(name.as_str(), &format!("{}{GUARD}{}", &name[..first], &name[first..]));
            }
        }
        text
    }
}

/// A prompt that may not become endless.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_PROMPT {
            return Err(io::Error::other("the prompt is longer than 16 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn plain(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

fn failed(error: &minijinja::Error) -> Error {
    let reason = match error.kind() {
        ErrorKind::OutOfFuel => "the chat template takes too long".to_owned(),
        _ => format!("the chat template refuses the messages: {}", plain(error)),
    };
    Error::data(reason, "messages alternate between user and assistant, after at most one from system")
}

#[cfg(test)]
mod tests;
