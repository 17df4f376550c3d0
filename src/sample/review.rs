//! Reviews: stars that follow the quality of the product, and words that follow the stars.

use super::catalogue::CATEGORIES;
use super::people::COUNTRIES;
use super::random::{Random, Topic};

/// Stars, 1-5, for a product of this quality (thousandths of a logit): most are content, some had a bad day.
pub(crate) fn stars(random: &mut Random, quality: i32) -> i32 {
    if random.chance(0.04) {
        return 1;
    }
    let score = 0.75 + f64::from(quality) / 1e3 * 1.6 + 0.85 * random.normal();
    match score {
        ..-0.9 => 1,
        -0.9..-0.5 => 2,
        -0.5..0.0 => 3,
        0.0..0.7 => 4,
        _ => 5,
    }
}

/// What a review says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) lang: &'static str,
    pub(crate) title: &'static str,
    pub(crate) text: String,
}

/// The words of a review; `dice` is drawn with it, so equal reviews stay equal.
pub(crate) fn words(dice: u64, country: usize, category: usize, stars: i32) -> Words {
    let mut random = Random::new(dice, Topic::Review, 0);
    let lang = COUNTRIES[country].lang;
    let phrases = PHRASES.iter().find(|phrases| phrases.lang == lang).expect("every country has a language with phrases");
    let aspects = if lang == "en" { &ASPECTS[category] } else { &NO_ASPECTS };
    let good = [phrases.praise, aspects.good];
    let bad = [phrases.complaint, aspects.bad];
    let mut parts: Vec<&'static str> = match stars {
        5 => vec![some(&mut random, good), some(&mut random, good)],
        4 => vec![some(&mut random, good), random.pick(phrases.mixed)],
        3 => {
            let sides = [good, bad];
            let side = random.pick(&sides);
            vec![random.pick(phrases.mixed), some(&mut random, side)]
        }
        2 => vec![some(&mut random, bad), random.pick(phrases.mixed)],
        _ => vec![some(&mut random, bad), some(&mut random, bad)],
    };
    parts.dedup();
    if random.chance(0.3) {
        parts.truncate(1);
    }
    if random.chance(0.35) && stars != 3 {
        parts.push(random.pick(if stars > 3 { phrases.farewell } else { phrases.warning }));
    }
    let title = random.pick(phrases.titles[(stars - 1) as usize]);
    Words { lang, title, text: parts.join(phrases.space) }
}

/// A phrase about the thing itself, if its category has any, or a general one.
fn some(random: &mut Random, [general, special]: [&'static [&'static str]; 2]) -> &'static str {
    let list = if !special.is_empty() && random.chance(0.6) { special } else { general };
    random.pick(list)
}

struct Phrases {
    lang: &'static str,
    space: &'static str,
    /// By stars, from one.
    titles: [&'static [&'static str]; 5],
    praise: &'static [&'static str],
    mixed: &'static [&'static str],
    complaint: &'static [&'static str],
    farewell: &'static [&'static str],
    warning: &'static [&'static str],
}

const PHRASES: [Phrases; 6] = [
    Phrases {
        lang: "en",
        space: " ",
        titles: [
            &["Going back", "Not as described", "Avoid", "Very disappointed", "A bad buy"],
            &["Expected more", "Meh", "Could be better", "Hm."],
            &["It is okay", "Mixed feelings", "Does the job", "Average"],
            &["Very good", "Nearly perfect", "Happy with it", "Good value"],
            &["Love it", "Exactly what I wanted", "Wonderful", "Would buy again", "My favourite"],
        ],
        praise: &[
            "Arrived two days early and well packed.",
            "Better than in the pictures.",
            "I have had it for weeks and it still looks new.",
            "Excellent quality for the money.",
            "Bought one for my sister as well.",
            "I use it every single day.",
            "Exactly as described.",
        ],
        mixed: &[
            "The colour is a little different from the photo.",
            "Delivery took longer than promised.",
            "The packaging could be smaller.",
            "It is fine, nothing special.",
            "A bit expensive for what it is.",
            "The instructions could be clearer.",
        ],
        complaint: &[
            "It broke after the second use.",
            "Looks cheap and feels cheaper.",
            "Not at all what the photo shows.",
            "Two e-mails to support and still no answer.",
            "It arrived damaged and smelled odd.",
            "Poor quality, I expected more at this price.",
        ],
        farewell: &["Recommended!", "Thank you.", "I will order again.", "Five out of five from my family too."],
        warning: &["I have sent it back.", "Save your money.", "Never again.", "I would not recommend it."],
    },
    Phrases {
        lang: "de",
        space: " ",
        titles: [
            &["Geht zurück", "Finger weg", "Sehr enttäuscht", "Leider ein Fehlkauf"],
            &["Mehr erwartet", "Naja", "Nicht meins"],
            &["Ganz okay", "Durchschnitt", "Gemischte Gefühle"],
            &["Sehr gut", "Fast perfekt", "Gute Qualität"],
            &["Großartig!", "Lieblingsstück", "Genau das Richtige", "Immer wieder gern"],
        ],
        praise: &[
            "Sehr gut verarbeitet und schön verpackt.",
            "Noch schöner als auf den Bildern.",
            "Ich benutze es jeden Tag.",
            "Die Lieferung war schneller als gedacht.",
            "Für den Preis wirklich hervorragend.",
        ],
        mixed: &[
            "Die Farbe weicht etwas vom Foto ab.",
            "Die Lieferung hat etwas gedauert.",
            "In Ordnung, mehr aber auch nicht.",
            "Die Größe fällt anders aus als angegeben.",
        ],
        complaint: &[
            "Nach dem zweiten Mal war es kaputt.",
            "Wirkt billig und riecht unangenehm.",
            "Der Kundendienst antwortet nicht.",
            "Hat mit dem Foto nichts zu tun.",
            "Beschädigt angekommen.",
        ],
        farewell: &["Klare Empfehlung!", "Gerne wieder.", "Danke!"],
        warning: &["Schade ums Geld.", "Nicht zu empfehlen.", "Habe es zurückgeschickt."],
    },
    Phrases {
        lang: "fr",
        space: " ",
        titles: [
            &["À éviter", "Très déçue", "Retour immédiat"],
            &["Bof", "Je m'attendais à mieux", "Moyen"],
            &["Correct", "Sans plus", "Avis partagé"],
            &["Très bien", "Presque parfait", "Bon rapport qualité-prix"],
            &["Parfait !", "Je l'adore", "Coup de cœur", "Rien à redire"],
        ],
        praise: &[
            "Très belle qualité, je suis ravi.",
            "Encore plus joli que sur les photos.",
            "Livraison rapide et soignée.",
            "Je m'en sers tous les jours.",
            "Conforme à la description.",
        ],
        mixed: &[
            "La couleur diffère un peu de la photo.",
            "La livraison a été un peu longue.",
            "C'est correct, sans plus.",
            "Un peu cher pour ce que c'est.",
        ],
        complaint: &[
            "Cassé au bout de deux jours.",
            "La qualité est très décevante.",
            "Le service client ne répond pas.",
            "Rien à voir avec la photo.",
            "Article reçu abîmé.",
        ],
        farewell: &["Je recommande !", "Merci.", "Je rachèterai."],
        warning: &["Je ne recommande pas.", "Plus jamais.", "Je l'ai renvoyé."],
    },
    Phrases {
        lang: "es",
        space: " ",
        titles: [
            &["No lo compréis", "Muy decepcionado", "Devuelto"],
            &["Esperaba más", "Regular", "No me convence"],
            &["Está bien", "Normalito", "Ni fu ni fa"],
            &["Muy bueno", "Casi perfecto", "Contenta con la compra"],
            &["¡Me encanta!", "Perfecto", "Lo mejor que he comprado"],
        ],
        praise: &[
            "Muy buena calidad y muy bien presentado.",
            "Es aún más bonito que en las fotos.",
            "Llegó antes de lo previsto.",
            "Lo uso todos los días.",
            "Relación calidad-precio excelente.",
        ],
        mixed: &[
            "El color cambia un poco respecto a la foto.",
            "El envío tardó más de lo esperado.",
            "Está bien, sin más.",
            "La talla es algo pequeña.",
        ],
        complaint: &[
            "Se rompió al segundo uso.",
            "La calidad es muy mala.",
            "Nadie responde a mis mensajes.",
            "No se parece a la foto.",
            "Llegó dañado.",
        ],
        farewell: &["¡Muy recomendable!", "Repetiré.", "Gracias."],
        warning: &["No lo recomiendo.", "Dinero tirado.", "Lo he devuelto."],
    },
    Phrases {
        lang: "zh",
        space: "",
        titles: [
            &["太差了", "不推荐", "已退货"],
            &["有点失望", "不太满意", "一般偏差"],
            &["一般般", "还可以", "中规中矩"],
            &["挺好的", "比较满意", "性价比不错"],
            &["非常喜欢！", "超出预期", "会回购", "强烈推荐"],
        ],
        praise: &["质量很好，做工精细。", "比图片上还好看。", "物流很快，包装也用心。", "每天都在用，很满意。", "家人也很喜欢。"],
        mixed: &["颜色和图片有点色差。", "物流稍微慢了一点。", "中规中矩，没有惊喜。", "价格略贵。"],
        complaint: &["用了两次就坏了。", "质量很差，有异味。", "客服一直不回复。", "和图片完全不一样。", "收到时已经破损。"],
        farewell: &["推荐购买！", "下次还会再来。", "谢谢卖家。"],
        warning: &["不推荐。", "再也不会买了。", "已经申请退货。"],
    },
    Phrases {
        lang: "ja",
        space: "",
        titles: [
            &["返品しました", "がっかり", "おすすめしません"],
            &["期待はずれ", "いまいち", "うーん"],
            &["普通です", "まあまあ", "可もなく不可もなく"],
            &["良いです", "ほぼ満足", "コスパが良い"],
            &["最高です", "買ってよかった", "お気に入り", "リピートします"],
        ],
        praise: &[
            "品質がとても良いです。",
            "写真よりも素敵でした。",
            "届くのが早く、梱包も丁寧でした。",
            "毎日使っています。",
            "家族にも好評です。",
        ],
        mixed: &["色が写真と少し違いました。", "配送に少し時間がかかりました。", "悪くはないですが、普通です。", "少し高いと思います。"],
        complaint: &[
            "二回使っただけで壊れました。",
            "安っぽくて残念です。",
            "問い合わせても返事がありません。",
            "写真とまったく違います。",
            "届いたときには傷がついていました。",
        ],
        farewell: &["おすすめです。", "また買います。", "ありがとうございました。"],
        warning: &["おすすめできません。", "もう買いません。", "返品しました。"],
    },
];

/// What is said about things of one category.
struct Aspects {
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

const NO_ASPECTS: Aspects = Aspects { good: &[], bad: &[] };

/// In the order of [`CATEGORIES`].
const ASPECTS: [Aspects; CATEGORIES.len()] = [
    Aspects {
        good: &["Comfortable from the first step.", "True to size and light on the foot.", "Walked ten kilometres in them, no blisters."],
        bad: &["The sole came off within a month.", "They squeak with every step.", "Much too narrow, even one size up."],
    },
    Aspects {
        good: &["Warm without being heavy.", "Stood up to a proper storm.", "The pockets are in all the right places."],
        bad: &["The zip jammed on the first day.", "Waterproof it is not.", "The lining tore at the sleeve."],
    },
    Aspects {
        good: &["So soft, and it does not itch.", "Washed it five times and it kept its shape.", "The knit is dense and warm."],
        bad: &["It pilled after one afternoon.", "It shrank in a cold wash.", "Scratchy around the neck."],
    },
    Aspects {
        good: &[
            "It falls beautifully and has pockets.",
            "I wore it to a wedding and got compliments all evening.",
            "The fabric stays cool in summer.",
        ],
        bad: &["The fabric is see-through.", "The seams came apart at the waist.", "The cut is odd at the shoulders."],
    },
    Aspects {
        good: &["Fits a laptop, a lunch and a jumper.", "The straps are comfortable even when it is full.", "Sturdy, with neat stitching."],
        bad: &["The strap ripped out in the second week.", "The clasp does not hold.", "The coating is flaking off."],
    },
    Aspects {
        good: &["Delicate and still sturdy.", "Does not tarnish, does not irritate.", "It catches the light nicely."],
        bad: &["It turned my finger green.", "A stone fell out on day one.", "The clasp is too weak."],
    },
    Aspects {
        good: &["My skin feels calm for the first time this winter.", "Absorbs quickly and is not greasy.", "A little goes a long way."],
        bad: &["It stings and left me red.", "The pump stopped working half-way.", "The smell is overwhelming."],
    },
    Aspects {
        good: &["Heats evenly and cleans easily.", "Heavy, solid, a pleasure to hold.", "Survives the dishwasher."],
        bad: &["The handle came loose.", "The glaze chipped in the first wash.", "Everything sticks to it."],
    },
    Aspects {
        good: &["It makes the whole room warmer.", "Solid, and easy to put together.", "The texture is lovely."],
        bad: &["One leg is shorter than the others.", "It sheds all over the floor.", "Much smaller than I thought."],
    },
    Aspects {
        good: &["Kept dry through a night of rain.", "Packs down to nothing.", "Light enough for a week on the trail."],
        bad: &["It leaked at the first drizzle.", "A pole snapped in a breeze.", "The valve does not close."],
    },
    Aspects {
        good: &["The children have played with nothing else since.", "Nicely made, no sharp edges.", "Fun for grown-ups too."],
        bad: &["Pieces were missing.", "The paint comes off.", "It was boring after ten minutes."],
    },
    Aspects {
        good: &["Round, chocolaty, not bitter at all.", "The whole kitchen smells of it.", "The best cup I have had at home."],
        bad: &["Stale when it arrived.", "Bitter and burnt.", "The tin was dented and half open."],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn happy_reviews_hold_no_complaint_and_angry_ones_no_praise() {
        for dice in 0..3_000 {
            let (country, category) = (dice as usize % COUNTRIES.len(), dice as usize / 7 % CATEGORIES.len());
            let phrases = PHRASES.iter().find(|phrases| phrases.lang == COUNTRIES[country].lang).unwrap();
            let says = |lists: [&[&str]; 2], text: &str| lists.concat().iter().any(|phrase| text.contains(phrase));
            let aspects = &ASPECTS[category];
            let happy = words(dice, country, category, 5);
            assert!(!says([phrases.complaint, aspects.bad], &happy.text), "{}", happy.text);
            assert!(says([phrases.praise, aspects.good], &happy.text), "{}", happy.text);
            let angry = words(dice, country, category, 1);
            assert!(!says([phrases.praise, aspects.good], &angry.text), "{}", angry.text);
            assert!(says([phrases.complaint, aspects.bad], &angry.text), "{}", angry.text);
        }
    }

    #[test]
    fn better_products_get_more_stars() {
        let mean = |quality| {
            let mut random = Random::new(1, Topic::Review, 1);
            (0..4_000).map(|_| stars(&mut random, quality)).sum::<i32>() as f64 / 4_000.0
        };
        let (bad, plain, good) = (mean(-600), mean(0), mean(600));
        assert!(bad < plain - 0.5 && plain < good - 0.3, "{bad} {plain} {good}");
        assert!((3.7..4.4).contains(&plain), "{plain}");
    }
}
