//! The wording of a brief by a language model: what it reads, the form of what it may write, and the text that comes of it.
//!
//! Small models word well what they see done and badly what they are told, so the prompt is a few finished advertisements, and the form leaves
//! them a short headline and half a sentence around the product's name. The offer is added as it is.

use stratagem_models::language::Grammar;

use super::brief::{Brief, Language};

/// An advertisement: its product, tone, headline and sentence.
type Example = (&'static str, &'static str, &'static str, &'static str);

/// Advertisements to go on from, and what they are for.
const GOALS: [(&str, [Example; 4]); 5] = [
    (
        "purchase",
        [
            ("running shoes", "friendly", "Your next run starts here", "Find running shoes that carry you a little further."),
            ("Ceramic Tea Pot, White", "elegant", "A quiet cup at home", "Meet the Ceramic Tea Pot, White and pour slowly."),
            ("backpacks", "urgent", "Pack it and go", "Choose our backpacks and leave the heavy things to them."),
            ("Wool Scarf, Blue", "playful", "Say hello to cold mornings", "Try the Wool Scarf, Blue and let the wind blow."),
        ],
    ),
    (
        "repurchase",
        [
            ("running shoes", "friendly", "Ready for another round", "Find running shoes that feel like an old friend."),
            ("Ceramic Tea Pot, White", "elegant", "Something more for your table", "Meet the Ceramic Tea Pot, White and pour slowly."),
            ("backpacks", "urgent", "Time to pack again", "Choose our backpacks and leave the heavy things to them."),
            ("Wool Scarf, Blue", "playful", "Back for more", "Try the Wool Scarf, Blue and let the wind blow."),
        ],
    ),
    (
        "winback",
        [
            ("running shoes", "friendly", "Good to see you again", "Find running shoes that carry you a little further."),
            ("Ceramic Tea Pot, White", "elegant", "We kept a place for you", "Meet the Ceramic Tea Pot, White and pour slowly."),
            ("backpacks", "urgent", "Come back and look", "Choose our backpacks and leave the heavy things to them."),
            ("Wool Scarf, Blue", "playful", "It is good to have you here", "Try the Wool Scarf, Blue and let the wind blow."),
        ],
    ),
    (
        "welcome",
        [
            ("running shoes", "friendly", "Welcome and look around", "Find running shoes that carry you a little further."),
            ("Ceramic Tea Pot, White", "elegant", "A warm welcome to you", "Meet the Ceramic Tea Pot, White and pour slowly."),
            ("backpacks", "urgent", "Start here", "Choose our backpacks and leave the heavy things to them."),
            ("Wool Scarf, Blue", "playful", "Hello and nice to meet you", "Try the Wool Scarf, Blue and let the wind blow."),
        ],
    ),
    (
        "cart",
        [
            ("running shoes", "friendly", "Still on your mind", "Take the running shoes that you liked."),
            ("Ceramic Tea Pot, White", "elegant", "Your choice is still here", "Take the Ceramic Tea Pot, White and pour slowly."),
            ("backpacks", "urgent", "Worth another look", "Get your backpacks and leave the heavy things to them."),
            ("Wool Scarf, Blue", "playful", "Ready when you are", "Get the Wool Scarf, Blue and let the wind blow."),
        ],
    ),
];

/// How English sentences about a product begin.
const OPENINGS: &str = "Meet|Find|Try|Choose|Discover|Enjoy|Take|Explore|Get|Bring home|Treat yourself to|Say hello to|Make room for";

/// What was written for a brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) headline: String,
    /// One sentence; the offer comes after it.
    pub(super) sentence: String,
}

impl Copy {
    /// Reads what a model wrote in the form of [`grammar`].
    pub(super) fn read(text: &str) -> Option<Self> {
        let (headline, sentence) = text.trim().split_once("\nbody:")?;
        Some(Self { headline: headline.trim().to_owned(), sentence: sentence.trim().to_owned() })
    }

    /// The sentence and the offer.
    pub(super) fn body(&self, brief: &Brief) -> String {
        let sentence = [Some(self.sentence.clone()), brief.offer_sentence()].into_iter().flatten();
        sentence.collect::<Vec<_>>().join(if brief.spaced() { " " } else { "" })
    }
}

impl Brief {
    /// Whether the language puts spaces between words.
    pub(super) fn spaced(&self) -> bool {
        !matches!(self.language, Language::Chinese | Language::Japanese)
    }
}

fn examples(goal: &str) -> &'static [Example; 4] {
    &GOALS.iter().find(|(known, _)| known.eq_ignore_ascii_case(goal)).unwrap_or(&GOALS[0]).1
}

/// The lines of the advertisements in the built-in prompt.
pub(super) fn example_lines(goal: &str) -> Vec<&'static str> {
    examples(goal).iter().flat_map(|(_, _, headline, sentence)| [*headline, *sentence]).collect()
}

/// Whether a line is taken from one that the model has read: as a whole, or three words in a row.
pub(super) fn is_copied(line: &str, read: &[&str]) -> bool {
    let spaced = |text: &str| format!(" {} ", text.trim_end_matches('.'));
    let words: Vec<&str> = line.trim_end_matches('.').split(' ').collect();
    let holds = |known: &str| words.windows(3).any(|run| spaced(known).contains(&spaced(&run.join(" "))));
    read.iter().any(|known| line == *known || holds(known))
}

/// What a model reads: the advertisements, then the brief without its wording. Values are quoted, and cannot end their quotes.
pub(super) fn prompt(brief: &Brief) -> String {
    let mut text = String::new();
    for (product, tone, headline, sentence) in examples(&brief.goal) {
        text += &format!("product: \"{product}\"\ntone: {tone}\nheadline: {headline}\nbody: {sentence}\n\n");
    }
    text + &question(brief)
}

/// The brief, up to where the model goes on.
pub(super) fn question(brief: &Brief) -> String {
    let quoted = |text: &str| text.replace(['"', '“', '”', '„', '«', '»', '＂'], "'");
    let language = match brief.language {
        Language::English => String::new(),
        other => format!("language: {}\n", other.name()),
    };
    format!("product: \"{}\"\ntone: {}\n{language}headline:", quoted(&brief.product), quoted(&brief.tone))
}

/// The form of a wording: no figure, no name and no sign that the brief does not give can be written.
pub(super) fn grammar(brief: &Brief) -> Grammar {
    let product = escape(&brief.product);
    let (headline, sentence) = match brief.language {
        Language::English => {
            let first = "[A-Z][a-z]{0,10}";
            let word = "[a-z]{1,11}('(t|s|re|ll|ve))?";
            (format!("{first}( {word}){{1,6}}"), format!("({OPENINGS})( the| our| your)? {product}( {word}){{2,9}}[.]"))
        }
        Language::Chinese | Language::Japanese => {
            let free = "[\\p{Han}\\p{Hiragana}\\p{Katakana}ー、]";
            (format!("{free}{{2,16}}"), format!("{free}{{0,8}}{product}{free}{{2,20}}[。！]"))
        }
        _ => {
            let first = "\\p{Lu}\\p{Ll}{0,12}";
            let word = "\\p{Ll}{1,14}('\\p{Ll}{1,12})?";
            (format!("{first}( {word}){{1,6}}"), format!("({first}( {word}){{0,3}} )?{product}( {word}){{2,9}}[.!]"))
        }
    };
    Grammar::Regex(format!(" {headline}\nbody: {sentence}\n"))
}

/// A regular expression that matches this text only.
fn escape(text: &str) -> String {
    let special = |c: char| c.is_ascii_punctuation() || c == ' ';
    text.chars().map(|c| if special(c) { format!("\\x{{{:x}}}", u32::from(c)) } else { c.to_string() }).collect()
}
