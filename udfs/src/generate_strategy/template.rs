//! The wording of a brief by a fixed text, where no draft of a model is good enough.

use super::brief::{Brief, Language};
use super::copy::Copy;

/// The headlines of a language for purchase and any other goal, repurchase, winback, welcome and cart, and its sentence.
fn texts(language: Language) -> ([&'static str; 5], &'static str) {
    match language {
        Language::English => {
            (["For you", "Once more for you", "Good to see you again", "Welcome", "Still in your cart"], "Discover {product}.")
        }
        Language::German => (
            ["Für Sie", "Noch einmal für Sie", "Schön, Sie wiederzusehen", "Willkommen", "Noch im Warenkorb"],
            "Jetzt entdecken: {product}.",
        ),
        Language::French => (
            ["Pour vous", "Encore pour vous", "Ravis de vous revoir", "Bienvenue", "Toujours dans votre panier"],
            "À découvrir : {product}.",
        ),
        Language::Spanish => {
            (["Para usted", "Otra vez para usted", "Nos alegra verle de nuevo", "Bienvenida", "Todavía en su cesta"], "Descubra {product}.")
        }
        Language::Italian => {
            (["Per te", "Ancora per te", "Felici di rivederti", "Ti diamo il benvenuto", "Ancora nel carrello"], "Scopri {product}.")
        }
        Language::Portuguese => (
            ["Para si", "Mais uma vez para si", "Que bom voltar a ver você", "Boas-vindas", "Ainda no seu carrinho"],
            "Descubra {product}.",
        ),
        Language::Dutch => (["Voor u", "Nog eens voor u", "Fijn u weer te zien", "Welkom", "Nog in uw winkelwagen"], "Ontdek {product}."),
        Language::Chinese => (["为您推荐", "再次为您推荐", "欢迎回来", "欢迎", "仍在您的购物车中"], "{product}，等您来看。"),
        Language::Japanese => (
            ["あなたへのおすすめ", "もう一度おすすめ", "おかえりなさい", "ようこそ", "カートに入ったままです"],
            "{product}をご覧ください。",
        ),
    }
}

/// The wording, which holds nothing but the brief.
pub(super) fn wording(brief: &Brief) -> Copy {
    let (headlines, sentence) = texts(brief.language);
    let goals = ["repurchase", "winback", "welcome", "cart"];
    let goal = goals.iter().position(|goal| goal.eq_ignore_ascii_case(&brief.goal)).map_or(0, |place| place + 1);
    let full = sentence.replace("{product}", &brief.product);
    let copy = Copy { headline: headlines[goal].to_owned(), sentence: full };
    if copy.body(brief).chars().count() <= brief.channel.limits().1 {
        return copy;
    }
    // The name alone fits: the brief has seen to that.
    let stop = if brief.spaced() { "." } else { "。" };
    Copy { sentence: format!("{}{stop}", brief.product), ..copy }
}
