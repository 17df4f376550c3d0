//! Low-rank changes of a model's weights (LoRA, Hu et al. 2021).

/// An adapter.
#[derive(Debug)]
pub struct Adapter {
    pub(super) id: u64,
}
