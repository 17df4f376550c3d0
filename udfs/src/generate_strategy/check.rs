//! Whether a wording holds to its brief. What a small model writes is wrong more often than not, so every rule here refuses; none repairs.

use std::collections::HashSet;

use super::brief::{Brief, Language};
use super::copy::{Copy, example_lines, is_copied};

/// English words that claim something about price, quality, time or quantity. They are refused unless the brief has them.
const CLAIMS: &str = "affordable all always anniversary anymore approved authentic award awards bargain best bonus budget certified cheap cheaper cheapest \
    christmas clearance closeout cost costs coupon coupons deal deals delivered delivery dirt discount discounted discounts doctor double dozen easiest \
    easter exclusive expensive expires extra fair fastest finest first five four free friday gift gifts greatest guarantee guaranteed guarantees half \
    halloween handmade handpicked health healthy holiday holidays hour hours hundred hundreds hurry instant last latest less lifetime limited lowest luxury \
    million minute minutes monday money month months nine now number official one only order organic original percent perfect perfectly pay percentage \
    popular premium price priced prices prize proven pure quality quickest recommended refund return returns risk safe safest sale sales saturday save \
    saved saves saving savings second seven shipped shipping shortage six sold stock sunday sustainable ten thousand thousands three thursday today \
    tomorrow tonight top trial triple tuesday twelve twenty twice two unique unlimited value vegan voucher warranty waterproof wednesday week weekend weeks \
    winner winning worth year years yesterday";

/// English words for goods. They are refused unless the brief has them, as they would promise another product.
const GOODS: &str = "apron armchair bag ball basket battery bear bed bedding beer belt bench bicycle bike blanket blender blouse boat book bookmark bookshelf \
    boot bottle bowl box bracelet bread brush cable cake camera candle candlelight cap car card carpet chair charger chocolate cigarette cigar closet clothes clothing coat \
    coffee coin collar computer cookie cotton couch cream cup curtain cushion denim desk device dish doll dress drink drone duvet ear earbud earphone earring \
    fabric fan flower food fork fragrance furniture game garden gemstone glass glove gown guitar hat headphone headset helmet hoodie house jacket jar jean \
    jewel jewelry juice kettle keyboard kit knife lamp lantern laptop leather lens library light lipstick machine makeup mat meal medicine mirror mouse mug music \
    necklace notebook oven painting pajama pan pant paper pen pencil perfume phone piano pill pillow pizza plant plate pot potion purse puzzle racket radio \
    ring robe rug salad sandal scarf screen shampoo sheet shelf shirt shoe shop shorts silk silver skirt slipper smartphone sneaker soap sock sofa \
    soup speaker spoon stove suit suitcase sunglasses sweater swimsuit table tablet tea teapot television tent ticket tie tool toothbrush towel toy \
    train tree trench trouser tshirt umbrella underwear vase vest violin wallet walnut wardrobe watch water wine wool yarn";

/// English words that do not belong into an advertisement, whatever it is for. A shop does not say I.
const UNFIT: &str = "addict addicted afraid alcohol alone angry bad battle beat beggar blood bomb boring burden cancer charity cheat corpse crash crazy cry damn dead death \
    dedication destroy die dirty disease donate donated drug drugs drunk dumb enemy evil excuse expired fail failure fake fat fear fight fire forget gun hate hell horror hurt i i'd i'll i'm i've \
    idiot ill insane kill killed lazy lie lies lonely lose loser lost mad master me mess messed mine my myself naked nasty never no nobody not nothing old pain panic poison \
    poor porn rat regret ruin sad sex shame shelter sick slave sleep sorry stolen stop stranger stupid suffer suicide thief tired trash ugly unless \
    unwanted useless victim violence war waste weak weird worried worries worry worse worst wrong";

/// English words that a line does not end with, and that may stand in it more than once.
const DANGLING: &str = "a about after all also am an and any anything are around as at back be because been before being but by can could did do does doing each every \
    everything find for from get give go going got had has have having he her here's his how i if in into is it's its just keep let like look made make makes many \
    may me more most much must my new next nor not of off on onto or our out over put see seem should so some something start such take than that that's the \
    their them then there's these they they're this those to too towards try up upon use very was we we're were what when where which while who whose \
    whatever whenever wherever why will with without would you'll you're you've your";

/// Why a draft is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has no headline and sentence.
    Form,
    /// It is longer than the channel takes.
    Length,
    /// The product's name is not in it, or more than once.
    Product,
    /// A figure or a sign that the brief does not have.
    Figure,
    /// A name that the brief does not have.
    Name,
    /// A claim or another product.
    Claim,
    /// A word that the caller or good manners forbid.
    Word,
    /// A line that ends in the middle, repeats itself, or is copied from the prompt.
    Wording,
    /// Another language.
    Language,
}

/// What the words of a draft are compared with, made once for many drafts.
pub(super) struct Checker<'a> {
    brief: &'a Brief,
    banned: &'a [String],
    /// The lines that the model has read before the brief.
    read: Vec<&'a str>,
    /// The stems of the words of the brief.
    known: HashSet<String>,
}

impl<'a> Checker<'a> {
    /// `banned` are words and phrases in lower case; `prompt` is what the model reads in place of the built-in one.
    pub(super) fn new(brief: &'a Brief, banned: &'a [String], prompt: Option<&'a str>) -> Self {
        let given = [Some(&brief.product), brief.offer.as_ref()];
        let known = given.into_iter().flatten().flat_map(|text| words(text)).map(|word| stem(&word).to_owned()).collect();
        let read = prompt.map_or_else(|| example_lines(&brief.goal), |prompt| prompt.lines().collect());
        Self { brief, banned, read, known }
    }

    /// Whether a draft holds. `common` says whether a word is one that the model has as a whole: rare and made-up ones are not.
    pub(super) fn check(&self, copy: &Copy, common: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let (headline, sentence) = (copy.headline.as_str(), copy.sentence.as_str());
        if headline.is_empty() || sentence.is_empty() {
            return Err(Fault::Form);
        }
        let (most_headline, most_body) = self.brief.channel.limits();
        if headline.chars().count() > most_headline || copy.body(self.brief).chars().count() > most_body {
            return Err(Fault::Length);
        }
        if sentence.matches(self.brief.product.as_str()).count() != 1 {
            return Err(Fault::Product);
        }
        let free = [headline.to_owned(), sentence.replacen(self.brief.product.as_str(), " ", 1)];
        if free.iter().any(|text| text.chars().any(|c| c.is_numeric() || "%‰$€£¥₹@#&*/\\<>{}[]|_=+~^\"“”".contains(c))) {
            return Err(Fault::Figure);
        }
        let forbidden = |text: &str| self.banned.iter().any(|banned| has_phrase(text, banned));
        if forbidden(headline) || forbidden(&copy.body(self.brief)) {
            return Err(Fault::Word);
        }
        if free.iter().any(|text| is_copied(text, &self.read)) {
            return Err(Fault::Wording);
        }
        free.iter().try_for_each(|text| self.words(text))?;
        match self.brief.language {
            Language::English => free.iter().try_for_each(|text| self.english(text, &common)),
            other => is_language(&format!("{headline}. {sentence}"), other).then_some(()).ok_or(Fault::Language),
        }
    }

    /// The rules of any language.
    fn words(&self, text: &str) -> Result<(), Fault> {
        let spelled: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()).collect();
        // German writes nouns with capitals, so that there a capital tells nothing.
        let capital = |word: &&&str| word.chars().next().is_some_and(char::is_uppercase);
        let named = spelled.iter().skip(1).filter(capital).any(|word| !self.known.contains(stem(&word.to_lowercase())));
        if named && self.brief.language != Language::German {
            return Err(Fault::Name);
        }
        let mut seen = HashSet::new();
        let long = words(text).into_iter().filter(|word| word.chars().count() > 3 && !listed(DANGLING, word));
        if long.map(|word| stem(&word).to_owned()).any(|word| !seen.insert(word)) {
            return Err(Fault::Wording);
        }
        Ok(())
    }

    fn english(&self, text: &str, common: &impl Fn(&str) -> bool) -> Result<(), Fault> {
        let all = words(text);
        for word in &all {
            let given = self.known.contains(stem(word));
            if !given && (listed(CLAIMS, word) || listed(GOODS, stem(word)) || listed(GOODS, word)) {
                return Err(Fault::Claim);
            }
            if listed(UNFIT, word) || word.ends_with("n't") {
                return Err(Fault::Word);
            }
            if !given && !common(word) {
                return Err(Fault::Wording);
            }
        }
        match all.last() {
            Some(last) if listed(DANGLING, last) => Err(Fault::Wording),
            _ => Ok(()),
        }
    }
}

fn listed(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// The words of a text in lower case.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A word without the endings of a plural.
fn stem(word: &str) -> &str {
    let word = word.strip_suffix("'s").unwrap_or(word);
    match word.strip_suffix("es") {
        Some(short) if ["sh", "ch", "ss", "x"].iter().any(|end| short.ends_with(end)) => short,
        _ => word.strip_suffix('s').filter(|short| short.len() > 2 && !short.ends_with('s')).unwrap_or(word),
    }
}

/// Whether a phrase stands in a text as whole words.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let text = text.to_lowercase();
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    // Where a script has no spaces, any place will do.
    let whole = phrase.is_ascii();
    text.match_indices(phrase)
        .any(|(at, found)| !whole || (!word(text[..at].chars().next_back()) && !word(text[at + found.len()..].chars().next())))
}

fn is_language(text: &str, language: Language) -> bool {
    use whichlang::Lang;
    let expected = match language {
        Language::English => Lang::Eng,
        Language::German => Lang::Deu,
        Language::French => Lang::Fra,
        Language::Spanish => Lang::Spa,
        Language::Italian => Lang::Ita,
        Language::Portuguese => Lang::Por,
        Language::Dutch => Lang::Nld,
        Language::Chinese => Lang::Cmn,
        Language::Japanese => Lang::Jpn,
    };
    whichlang::detect_language(text) == expected
}

#[cfg(test)]
mod tests {
    use super::super::brief::{Channel, Given};
    use super::*;

    fn brief(product: &str, offer: &str, language: &str) -> Brief {
        let given = Given { product, column: "product", offer: Some(offer), channel: "email", goal: "purchase", tone: "plain", language };
        Brief::new(&given, "f").unwrap().unwrap()
    }

    fn fault(brief: &Brief, headline: &str, sentence: &str) -> Option<Fault> {
        let copy = Copy { headline: headline.to_owned(), sentence: sentence.to_owned() };
        let banned = ["dream come true".to_owned(), "ours".to_owned()];
        Checker::new(brief, &banned, None).check(&copy, |word| !word.contains("zz")).err()
    }

    #[test]
    fn what_holds_to_its_brief_passes() {
        let shoes = brief("shoes", "10% off", "en");
        assert_eq!(fault(&shoes, "A walk you will love", "Find shoes that fit your day."), None);
        assert_eq!(fault(&shoes, "Happy shoes", "Find the shoes that you can walk in."), Some(Fault::Wording), "ends in the middle");
        assert_eq!(
            fault(&brief("Walnut Reading Lamp", "", "en"), "A lamp to love", "Meet the Walnut Reading Lamp and enjoy the evening."),
            None
        );
        assert_eq!(fault(&brief("Schuhe", "", "de"), "Ein Schritt und noch einer", "Schuhe für jeden Tag und alle Wege."), None);
    }

    #[test]
    fn what_the_brief_does_not_say_is_refused() {
        let shoes = brief("shoes", "10% off", "en");
        let good = "Find shoes that fit your day.";
        for (headline, sentence, expected) in [
            ("", good, Fault::Form),
            ("A walk", "Find boots that fit your day.", Fault::Product),
            ("A walk", "Find shoes that fit your shoes.", Fault::Claim),
            ("A walk with 20", good, Fault::Figure),
            ("A walk at half the price", good, Fault::Claim),
            ("Made for London", good, Fault::Name),
            ("A walk in your jacket", good, Fault::Claim),
            ("A walk in your jackets", good, Fault::Claim),
            ("Free for you", good, Fault::Claim),
            ("Don't wait", good, Fault::Word),
            ("Like a dream come true", good, Fault::Word),
            ("A walk with the", good, Fault::Wording),
            ("Love and love", good, Fault::Wording),
            ("Your next run starts here", good, Fault::Wording),
            ("A fizzy walk", good, Fault::Wording),
        ] {
            let found = fault(&shoes, headline, sentence);
            // The name of the brief in the rest of the sentence is a repetition, not a claim.
            let expected = if sentence.ends_with("your shoes.") { Fault::Product } else { expected };
            assert_eq!(found, Some(expected), "{headline} | {sentence}");
        }
        assert_eq!(fault(&shoes, &"long ".repeat(30), good), Some(Fault::Length));
        assert_eq!(shoes.channel, Channel::Email);
        let french = brief("chaussures", "", "fr");
        assert_eq!(fault(&french, "A walk you will love", "Find the chaussures that fit your day and go far."), Some(Fault::Language));
    }

    #[test]
    fn phrases_are_found_as_whole_words() {
        assert!(has_phrase("It is OURS.", "ours") && !has_phrase("Yours truly", "ours"));
        assert!(has_phrase("这是最好的鞋", "最好"));
    }

    #[test]
    fn lists_of_words_are_in_order() {
        for list in [CLAIMS, GOODS, UNFIT, DANGLING] {
            let mut words: Vec<_> = list.split_whitespace().collect();
            let count = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), count, "a word stands twice");
        }
    }
}
