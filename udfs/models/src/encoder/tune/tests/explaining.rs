//! Why a text is of a class.

use super::*;
use crate::model::Model;
use crate::registry::{ModelName, Registry, Source};

#[test]
fn attributions_add_up_to_the_difference_of_the_log_probabilities() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder/bert");
    let encoder = || Encoder::prepare(&source, folder.path(), Encoder::EXACT).unwrap();
    let registry = Registry::open(registry.path()).unwrap();
    let name = ModelName::parse("topic").unwrap();
    let bases = |_: &str| Ok(encoder());
    for (version, method) in [(1, Method::Full), (2, Method::Lora)] {
        let base = Base::new(encoder(), Tune::new(method)).unwrap();
        let trained = trained(&base, 240, &TrainOptions { epochs: 8, learning_rate: 5e-3, ..options(method) }).unwrap();
        let source = Source { label: "topic".to_owned(), query: "SELECT 1".to_owned(), rows: 240 };
        trained.save(&registry, &name, source).unwrap();
        let explainer = Explainer::load(&runtime(), &registry, &name, version, &bases).unwrap();
        let go_on = AtomicBool::new(false);
        let text = "the parcel of a shop now";
        let coarse = explainer.explain(text, None, 2, &go_on).unwrap();
        let fine = explainer.explain(text, None, 256, &go_on).unwrap();
        let error = |found: &Explanation| (found.tokens.iter().map(|(_, value)| value).sum::<f64>() - found.difference).abs();
        assert!(fine.difference.abs() > 0.1 && error(&fine) < 1e-2 * fine.difference.abs(), "{fine:?}");
        assert!(error(&fine) <= error(&coarse), "{} {}", error(&fine), error(&coarse));
        assert_eq!(
            (fine.class, fine.tokens.iter().map(|(token, _)| token.as_str()).collect::<String>().as_str()),
            (0, "theparcelofashopnow")
        );
        let Model::Text(model) = Model::load_with(&runtime(), &registry, &name, version, &bases).unwrap() else { panic!("a text model") };
        let shares = model.read(&[text], &go_on).unwrap().values;
        assert!((fine.probability - f64::from(shares[0])).abs() < 1e-4, "{fine:?} {shares:?}");
        // Against another class the same words speak the other way.
        let against = explainer.explain(text, Some(1), 256, &go_on).unwrap();
        assert!(against.difference < 0.0 && error(&against) < 2e-2 * against.difference.abs(), "{against:?}");
        // The tokens of the text share the attention with the two around it.
        let attended = explainer.attend(text, None, &go_on).unwrap();
        let whole: f64 = attended.tokens.iter().map(|(_, share)| share).sum();
        assert!(whole > 0.1 && whole < 1.0 && attended.tokens.iter().all(|(_, share)| *share > 0.0), "{attended:?}");
        assert_eq!((attended.tokens.len(), attended.class), (fine.tokens.len(), 0));
        let stopped = explainer.explain(text, None, 256, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Canceled)));
    }
}
