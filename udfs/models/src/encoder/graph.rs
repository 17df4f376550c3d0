//! The graph of an encoder, and its form for serving: with weights in a file beside it, and products of 8 bits if wanted.
//!
//! Inputs, with `b` texts of up to `s` tokens (padded on the right):
//! - `ids` int64 `[b, s]`, `positions` int64 `[s]`: rows of the tables of tokens and positions;
//! - `mask` float `[b, s]`: 0 for tokens, a large negative number for padding;
//! - `pool` float `[b, s]`: what each token counts in the vector of its text.
//!
//! The output is `pooled` float `[b, hidden]`. The weights are inputs too, under the names they have in BERT, so that the graph can be
//! differentiated; for serving they become constants.
//!
//! A training has the same graph ([`trainable`]), but for what would cost it the size of the vocabulary: instead of `ids` it is given `words` float
//! `[b, s, hidden]`, the rows of the table of tokens, which then may have gradients like a weight.

use super::checkpoint::{Checkpoint, Weight};
use super::config::{Activation, Config};
use crate::error::{Error, Result};
use crate::graph::lower::MICROSOFT;
use crate::graph::{Dim, Graph, Op, Shape, Tensor};
use crate::language::quantise;
use crate::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, data_type};
use crate::prepared::Data;

/// The file with the weights.
pub(super) const WEIGHTS: &str = "weights.bin";

/// A weight of the graph.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Its input. What differentiates the graph needs it; serving finds the input by its name.
    pub(super) tensor: Tensor,
    /// Whether it is the matrix of a product, as `[outputs, inputs]`.
    product: bool,
}

/// The graph without outputs, and what matters in it.
pub(super) struct Net {
    pub(super) graph: Graph,
    /// The weights, which are inputs.
    pub(super) slots: Vec<Slot>,
    /// The vectors of the tokens, `[b, s, hidden]`.
    pub(super) states: Tensor,
    /// The vectors of the texts.
    pub(super) pooled: Tensor,
    /// The widths of the masks of low-rank changes, in their order.
    pub(super) masks: Vec<usize>,
    /// What each token attends to in each layer, `[b, heads, s, s]`.
    pub(super) attention: Vec<Tensor>,
}

/// What is added to an encoder.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Added {
    Low(Low),
    /// A bottleneck of this width after the attention and after the feed-forward part of each layer (Houlsby et al. 2019). Their names contain
    /// `.adapter.`.
    Adapters(usize),
    /// So many keys and values that every token attends to besides those of the text, of each layer (Li and Liang 2021). Their names contain
    /// `.prefix.`.
    Prefixes(usize),
}

/// Low-rank changes of some matrices: W x becomes W x + scale B A x (Hu et al. 2021). Their names end in `lora_A` and `lora_B`; what the rows of A x
/// are multiplied by, if anything (Zhang et al. 2023), in `lora_E`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Low {
    pub(super) rank: usize,
    pub(super) scale: f32,
    /// The names of the matrices within a layer.
    pub(super) targets: Vec<&'static str>,
    /// Whether there is an input `mask.N` `[b, s, inputs]` for the inputs `x` of the changes, in their order; those of one `x` share a mask.
    pub(super) masks: bool,
    /// Whether the rows of A x have factors, of which those that tell little can be set to 0.
    pub(super) factors: bool,
}

/// The input of a training that has the rows of the table of tokens.
pub(super) const ROWS: &str = "words";

/// The table of tokens.
pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";

/// The graph of an encoder of these sizes.
pub(super) fn build(config: &Config) -> Result<Net> {
    built(config, None)
}

/// The graph of an encoder with what is added to it, if anything.
pub(super) fn built(config: &Config, added: Option<&Added>) -> Result<Net> {
    Builder::new(config, false, added).net()
}

/// The graph for a training, with what is added if there is anything. The table of tokens is not among the slots.
pub(super) fn trainable(config: &Config, added: Option<&Added>) -> Result<Net> {
    Builder::new(config, true, added).net()
}

struct Builder<'c> {
    graph: Graph,
    config: &'c Config,
    slots: Vec<Slot>,
    /// Whether `words` is an input.
    words: bool,
    added: Option<&'c Added>,
    /// The inputs of changes that have a mask, with what they are after it.
    masked: Vec<(Tensor, Tensor)>,
    attention: Vec<Tensor>,
}

impl<'c> Builder<'c> {
    fn new(config: &'c Config, words: bool, added: Option<&'c Added>) -> Self {
        Self { graph: Graph::new("encoder"), config, slots: Vec::new(), words, added, masked: Vec::new(), attention: Vec::new() }
    }

    fn net(mut self) -> Result<Net> {
        let [states, pooled] = self.encode()?;
        let width = |(x, _): &(Tensor, Tensor)| self.graph.shape(*x).dims().last().and_then(Dim::size).unwrap_or_default();
        let masks = self.masked.iter().map(width).collect();
        Ok(Net { graph: self.graph, slots: self.slots, states, pooled, masks, attention: self.attention })
    }

    fn encode(&mut self) -> Result<[Tensor; 2]> {
        let (b, s) = (|| Dim::from("b"), || Dim::from("s"));
        let rows = Shape::new([b(), s()]);
        let words = self.words(rows.clone())?;
        let positions = self.graph.index_input("positions", Shape::new([s()]))?;
        let mask = self.graph.input("mask", rows.clone())?;
        let pool = self.graph.input("pool", rows)?;

        let mut x = self.embedded(words, positions)?;
        let ones = if let Some(Added::Prefixes(_)) = self.added { Some(self.ones(mask)?) } else { None };
        let mask = self.graph.one(Op::Unsqueeze(vec![1, 2]), &[mask])?;
        for layer in 0..self.config.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let attended = self.attention(&name("attention.self"), x, mask, ones)?;
            let attended = self.linear(&name("attention.output.dense"), attended, self.config.hidden, self.config.hidden)?;
            let attended = self.adapted(&name("attention.adapter"), attended)?;
            x = self.norm(&name("attention.output.LayerNorm"), attended, x)?;
            let inner = self.linear(&name("intermediate.dense"), x, self.config.hidden, self.config.inner)?;
            let inner = match self.config.activation {
                Activation::Gelu => self.graph.gelu(inner)?,
                Activation::Relu => self.graph.relu(inner)?,
            };
            let outer = self.linear(&name("output.dense"), inner, self.config.inner, self.config.hidden)?;
            let outer = self.adapted(&name("output.adapter"), outer)?;
            x = self.norm(&name("output.LayerNorm"), outer, x)?;
        }
        let pool = self.graph.one(Op::Unsqueeze(vec![1]), &[pool])?;
        let pooled = self.graph.matmul(pool, x)?;
        Ok([x, self.graph.one(Op::Squeeze(vec![1]), &[pooled])?])
    }

    fn weight(&mut self, name: String, shape: &[usize], product: bool) -> Result<Tensor> {
        let tensor = self.graph.input(&name, Shape::fixed(shape))?;
        self.slots.push(Slot { name, shape: shape.to_vec(), tensor, product });
        Ok(tensor)
    }

    /// The rows of the table of tokens.
    fn words(&mut self, rows: Shape) -> Result<Tensor> {
        let Config { vocabulary, hidden, .. } = *self.config;
        if self.words {
            return self.graph.input(ROWS, Shape::new(rows.dims().iter().cloned().chain([hidden.into()])));
        }
        let ids = self.graph.index_input("ids", rows)?;
        let table = self.weight(WORDS.to_owned(), &[vocabulary, hidden], false)?;
        self.graph.gather(table, ids)
    }

    /// All texts are of the first token type.
    fn embedded(&mut self, words: Tensor, positions: Tensor) -> Result<Tensor> {
        let Config { hidden, positions: places, types, .. } = *self.config;
        let places = self.weight("embeddings.position_embeddings.weight".to_owned(), &[places, hidden], false)?;
        let types = self.weight("embeddings.token_type_embeddings.weight".to_owned(), &[types, hidden], false)?;
        let first = self.graph.slice(types, 0, 0, 1)?;
        let places = self.graph.gather(places, positions)?;
        let places = self.graph.add(places, first)?;
        self.norm("embeddings.LayerNorm", words, places)
    }

    /// The norm of a sum.
    fn norm(&mut self, name: &str, x: Tensor, skip: Tensor) -> Result<Tensor> {
        let hidden = [self.config.hidden];
        let scale = self.weight(format!("{name}.weight"), &hidden, false)?;
        let bias = self.weight(format!("{name}.bias"), &hidden, false)?;
        let sum = self.graph.add(x, skip)?;
        self.graph.layer_norm(sum, scale, bias, self.config.epsilon)
    }

    fn linear(&mut self, name: &str, x: Tensor, inputs: usize, outputs: usize) -> Result<Tensor> {
        let weight = self.weight(format!("{name}.weight"), &[outputs, inputs], true)?;
        let bias = self.weight(format!("{name}.bias"), &[outputs], false)?;
        let product = self.graph.matmul_transposed(x, weight)?;
        let sum = self.graph.add(product, bias)?;
        match self.added {
            Some(Added::Low(low)) if low.targets.iter().any(|target| name.splitn(4, '.').nth(3) == Some(target)) => {
                self.changed(low, name, x, sum, [inputs, outputs])
            }
            _ => Ok(sum),
        }
    }

    /// What a low-rank change adds.
    fn changed(&mut self, low: &Low, name: &str, x: Tensor, y: Tensor, [inputs, outputs]: [usize; 2]) -> Result<Tensor> {
        let x = if low.masks { self.mask(x)? } else { x };
        let a = self.weight(format!("{name}.lora_A"), &[low.rank, inputs], false)?;
        let b = self.weight(format!("{name}.lora_B"), &[outputs, low.rank], false)?;
        let mut inner = self.graph.matmul_transposed(x, a)?;
        if low.factors {
            let factors = self.weight(format!("{name}.lora_E"), &[low.rank], false)?;
            inner = self.graph.mul(inner, factors)?;
        }
        let scale = self.graph.scalar(low.scale);
        let inner = self.graph.mul(inner, scale)?;
        let change = self.graph.matmul_transposed(inner, b)?;
        self.graph.add(y, change)
    }

    fn mask(&mut self, x: Tensor) -> Result<Tensor> {
        if let Some((_, masked)) = self.masked.iter().find(|(own, _)| *own == x) {
            return Ok(*masked);
        }
        let mask = self.graph.input(&mask(self.masked.len()), self.graph.shape(x).clone())?;
        let masked = self.graph.mul(x, mask)?;
        self.masked.push((x, masked));
        Ok(masked)
    }

    /// What an adapter makes of `x`: x + U gelu(D x).
    fn adapted(&mut self, name: &str, x: Tensor) -> Result<Tensor> {
        let Some(Added::Adapters(width)) = self.added else { return Ok(x) };
        let (width, hidden) = (*width, self.config.hidden);
        let mut linear = |part: &str, x: Tensor, [inputs, outputs]: [usize; 2]| -> Result<Tensor> {
            let weight = self.weight(format!("{name}.{part}.weight"), &[outputs, inputs], false)?;
            let bias = self.weight(format!("{name}.{part}.bias"), &[outputs], false)?;
            let product = self.graph.matmul_transposed(x, weight)?;
            let sum = self.graph.add(product, bias)?;
            if part == "down" { self.graph.gelu(sum) } else { Ok(sum) }
        };
        let inner = linear("down", x, [hidden, width])?;
        let change = linear("up", inner, [width, hidden])?;
        self.graph.add(x, change)
    }

    /// `[b, 1, 1, 1]` of ones.
    fn ones(&mut self, mask: Tensor) -> Result<Tensor> {
        let (zero, one) = (self.graph.scalar(0.0), self.graph.scalar(1.0));
        let nothing = self.graph.mul(mask, zero)?;
        let nothing = self.graph.reduce_sum(nothing, &[1], false)?;
        let ones = self.graph.add(nothing, one)?;
        self.graph.one(Op::Unsqueeze(vec![1, 2, 3]), &[ones])
    }

    /// `[b, s, hidden]` as `[b, heads, s, hidden / heads]`.
    fn heads(&mut self, x: Tensor) -> Result<Tensor> {
        let (heads, width) = (self.config.heads, self.config.hidden / self.config.heads);
        let cut = self.graph.reshape(x, Shape::new([Dim::from("b"), Dim::from("s"), heads.into(), width.into()]))?;
        self.graph.transpose(cut, &[0, 2, 1, 3])
    }

    /// softmax(Q K' / sqrt(d) + mask) V (Vaswani et al. 2017).
    fn attention(&mut self, name: &str, x: Tensor, mask: Tensor, ones: Option<Tensor>) -> Result<Tensor> {
        let hidden = self.config.hidden;
        let [query, key, value] = ["query", "key", "value"].map(|part| self.linear(&format!("{name}.{part}"), x, hidden, hidden));
        let scale = self.graph.scalar(1.0 / ((hidden / self.config.heads) as f32).sqrt());
        let query = self.graph.mul(query?, scale)?;
        let (query, key, value) = (self.heads(query)?, self.heads(key?)?, self.heads(value?)?);
        let scores = self.graph.matmul_transposed(query, key)?;
        let scores = self.graph.add(scores, mask)?;
        let weights = self.graph.softmax(scores)?;
        self.attention.push(weights);
        let mut attended = self.graph.matmul(weights, value)?;
        if let (Some(Added::Prefixes(length)), Some(ones)) = (self.added, ones) {
            attended = self.prefixed(name, *length, query, [scores, weights, attended], ones)?;
        }
        let attended = self.graph.transpose(attended, &[0, 2, 1, 3])?;
        self.graph.reshape(attended, Shape::new([Dim::from("b"), Dim::from("s"), hidden.into()]))
    }

    /// The attention over the text and a prefix together. Each part has its own softmax; what counts is how the sums of their exponentials stand to each
    /// other (He et al. 2022), which for the weights p of scores x is log sum exp x = sum p (x - log p).
    fn prefixed(
        &mut self,
        name: &str,
        length: usize,
        query: Tensor,
        [scores, weights, attended]: [Tensor; 3],
        ones: Tensor,
    ) -> Result<Tensor> {
        let (heads, width) = (self.config.heads, self.config.hidden / self.config.heads);
        let mut own = |part: &str| -> Result<Tensor> {
            let weight = self.weight(format!("{name}.prefix.{part}"), &[heads, length, width], false)?;
            self.graph.mul(ones, weight)
        };
        let (keys, values) = (own("key")?, own("value")?);
        let prefix_scores = self.graph.matmul_transposed(query, keys)?;
        let prefix_weights = self.graph.softmax(prefix_scores)?;
        let prefix = self.graph.matmul(prefix_weights, values)?;
        let (of_text, of_prefix) = (self.sum_exp(scores, weights)?, self.sum_exp(prefix_scores, prefix_weights)?);
        let difference = self.graph.sub(of_prefix, of_text)?;
        let share = self.graph.sigmoid(difference)?;
        let change = self.graph.sub(prefix, attended)?;
        let change = self.graph.mul(change, share)?;
        self.graph.add(attended, change)
    }

    /// The logarithm of the sum of the exponentials of scores, by their softmax.
    fn sum_exp(&mut self, scores: Tensor, weights: Tensor) -> Result<Tensor> {
        let least = self.graph.scalar(1e-30);
        let logs = self.graph.add(weights, least)?;
        let logs = self.graph.log(logs)?;
        let rest = self.graph.sub(scores, logs)?;
        let weighted = self.graph.mul(weights, rest)?;
        self.graph.reduce_sum(weighted, &[3], true)
    }
}

/// The name of a mask of dropout.
pub(super) fn mask(number: usize) -> String {
    format!("mask.{number}")
}

/// Writes the weights of a checkpoint to a file and gives the graph that uses them. With a block, the matrices of products are rounded to 8 bits
/// with a scale for each so many values of a row.
pub(super) fn serve(config: &Config, checkpoint: &Checkpoint<'_>, block: Option<usize>, data: &mut Data) -> Result<ModelProto> {
    let Net { mut graph, slots, pooled, .. } = build(config)?;
    graph.output("pooled", pooled)?;
    let mut model = graph.proto();
    let proto = model.graph.as_mut().ok_or_else(|| Error::graph("a model without a graph"))?;
    proto.input.retain(|input| slots.iter().all(|slot| slot.name != input.name));
    for slot in &slots {
        let weight = checkpoint.get(&slot.name, &slot.shape)?;
        match block.filter(|_| slot.product) {
            None => proto.initializer.push(floats(slot, &weight, data)?),
            Some(block) => {
                proto.initializer.extend(eight_bits(slot, &weight, block, data)?);
                round(proto, slot, block)?;
            }
        }
    }
    Ok(model)
}

fn floats(slot: &Slot, weight: &Weight<'_>, data: &mut Data) -> Result<TensorProto> {
    let offset = data.align()?;
    let mut bytes = Vec::new();
    weight.rows(|row| {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        data.put(&bytes)
    })?;
    let length = 4 * (weight.rows * weight.columns) as u64;
    Ok(TensorProto::external(&slot.name, &slot.shape, data_type::FLOAT, WEIGHTS, offset, length))
}

/// The values and the scales of a matrix, as `MatMulNBits` has them.
fn eight_bits(slot: &Slot, weight: &Weight<'_>, block: usize, data: &mut Data) -> Result<[TensorProto; 2]> {
    let blocks = weight.columns.div_ceil(block);
    let offset = data.align()?;
    let (mut quants, mut row_scales, mut scales) = (vec![0; blocks * block], vec![0.0; blocks], Vec::new());
    weight.rows(|row| {
        quantise::eight_bits(row, block, &mut quants, &mut row_scales);
        scales.extend(row_scales.iter().flat_map(|scale| scale.to_le_bytes()));
        data.put(&quants)
    })?;
    let shape = [weight.rows, blocks, block];
    let values = TensorProto::external(
        &format!("{}.q", slot.name),
        &shape,
        data_type::UINT8,
        WEIGHTS,
        offset,
        shape.iter().product::<usize>() as u64,
    );
    let offset = data.align()?;
    data.put(&scales)?;
    let scales =
        TensorProto::external(&format!("{}.s", slot.name), &[weight.rows * blocks], data_type::FLOAT, WEIGHTS, offset, scales.len() as u64);
    Ok([values, scales])
}

/// Replaces the product with a matrix by one with its rounded form.
fn round(graph: &mut GraphProto, slot: &Slot, block: usize) -> Result<()> {
    let [outputs, inputs] = slot.shape[..] else { return Err(Error::graph(format!("{} is no matrix", slot.name))) };
    let node = graph.node.iter_mut().find(|node| node.input.get(1) == Some(&slot.name));
    let node = node.ok_or_else(|| Error::graph(format!("no product with {}", slot.name)))?;
    *node = NodeProto {
        input: vec![node.input[0].clone(), format!("{}.q", slot.name), format!("{}.s", slot.name)],
        output: node.output.clone(),
        name: node.name.clone(),
        op_type: "MatMulNBits".to_owned(),
        domain: MICROSOFT.to_owned(),
        attribute: vec![
            AttributeProto::int("K", inputs as i64),
            AttributeProto::int("N", outputs as i64),
            AttributeProto::int("bits", 8),
            AttributeProto::int("block_size", block as i64),
            AttributeProto::int("accuracy_level", 4),
        ],
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::Family;
    use super::*;
    use crate::testing::{Feed, run, runtime};

    /// Two keys before the two of a text, of which the second one is padding for the second text.
    #[test]
    fn a_prefix_is_attended_to_as_if_its_keys_were_in_one_softmax_with_those_of_the_text() {
        let config = Config {
            family: Family::Bert,
            layers: 1,
            hidden: 4,
            heads: 2,
            inner: 4,
            vocabulary: 4,
            positions: 8,
            first_position: 0,
            types: 1,
            epsilon: 1e-12,
            activation: Activation::Gelu,
        };
        let (added, runtime) = (Added::Prefixes(2), runtime());
        let mut builder = Builder::new(&config, true, Some(&added));
        let (b, s) = (|| Dim::from("b"), || Dim::from("s"));
        let shape = || Shape::new([b(), 2.into(), s(), 2.into()]);
        let [query, key, value] = ["query", "key", "value"].map(|name| builder.graph.input(name, shape()).unwrap());
        let mask = builder.graph.input("mask", Shape::new([b(), s()])).unwrap();
        let ones = builder.ones(mask).unwrap();
        let mask = builder.graph.one(Op::Unsqueeze(vec![1, 2]), &[mask]).unwrap();
        let scores = builder.graph.matmul_transposed(query, key).unwrap();
        let scores = builder.graph.add(scores, mask).unwrap();
        let weights = builder.graph.softmax(scores).unwrap();
        let attended = builder.graph.matmul(weights, value).unwrap();
        let attended = builder.prefixed("x", 2, query, [scores, weights, attended], ones).unwrap();
        builder.graph.output("attended", attended).unwrap();

        let wave =
            |seed: usize, count: usize| -> Vec<f32> { (0..count).map(|at| ((at * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0).collect() };
        let (query, key, value) = (wave(1, 16), wave(2, 16), wave(3, 16));
        let (prefix_key, prefix_value) = (wave(4, 8), wave(5, 8));
        let mask = [0.0, 0.0, 0.0, -1e9f32];
        let of = |shape: &[usize], values: &[f32]| Feed::Floats(shape.to_vec(), values.to_vec());
        let found = run(
            &runtime,
            &builder.graph,
            &[
                ("query", of(&[2, 2, 2, 2], &query)),
                ("key", of(&[2, 2, 2, 2], &key)),
                ("value", of(&[2, 2, 2, 2], &value)),
                ("mask", of(&[2, 2], &mask)),
                ("x.prefix.key", of(&[2, 2, 2], &prefix_key)),
                ("x.prefix.value", of(&[2, 2, 2], &prefix_value)),
            ],
        );
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        for (place, found) in found[0].chunks_exact(2).enumerate() {
            let (text, head) = (place / 4, place / 2 % 2);
            let own = &query[place * 2..][..2];
            let start = (text * 2 + head) * 4;
            let of_text =
                (0..2).map(|at| (dot(own, &key[start + 2 * at..][..2]) + f64::from(mask[text * 2 + at]), &value[start + 2 * at..][..2]));
            let before = (0..2).map(|at| (dot(own, &prefix_key[head * 4 + 2 * at..][..2]), &prefix_value[head * 4 + 2 * at..][..2]));
            let all: Vec<(f64, &[f32])> = before.chain(of_text).collect();
            let whole: f64 = all.iter().map(|(score, _)| score.exp()).sum();
            for (at, found) in found.iter().enumerate() {
                let expected: f64 = all.iter().map(|(score, value)| score.exp() / whole * f64::from(value[at])).sum();
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{place}: {found} {expected}");
            }
        }
    }
}
