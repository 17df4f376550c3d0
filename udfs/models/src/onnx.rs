//! The part of the ONNX format that our graphs need (`onnx.proto3`, IR version 10), as protobuf messages.
//!
//! Field numbers are those of the ONNX specification; fields we never write are left out, which protobuf allows.

#![allow(missing_docs, reason = "the fields are named and described by the ONNX specification")]

/// `TensorProto.DataType`: element types in use.
pub(crate) mod data_type {
    pub(crate) const FLOAT: i32 = 1;
    pub(crate) const UINT8: i32 = 2;
    pub(crate) const INT8: i32 = 3;
    pub(crate) const INT32: i32 = 6;
    pub(crate) const INT64: i32 = 7;
    pub(crate) const STRING: i32 = 8;
    pub(crate) const FLOAT16: i32 = 10;
    pub(crate) const DOUBLE: i32 = 11;
    pub(crate) const UINT64: i32 = 13;
    pub(crate) const BFLOAT16: i32 = 16;
}

/// `AttributeProto.AttributeType`: kinds of attributes in use.
mod attribute_type {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const STRING: i32 = 3;
    pub(super) const INTS: i32 = 7;
    pub(super) const STRINGS: i32 = 8;
}

/// A model file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
}

/// A set of operators and its version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in topological order, with constants, inputs and outputs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One operation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named parameter of an operation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

impl AttributeProto {
    pub(crate) fn int(name: &str, i: i64) -> Self {
        Self { name: name.to_owned(), i, r#type: attribute_type::INT, ..Self::default() }
    }

    pub(crate) fn float(name: &str, f: f32) -> Self {
        Self { name: name.to_owned(), f, r#type: attribute_type::FLOAT, ..Self::default() }
    }

    pub(crate) fn string(name: &str, s: &str) -> Self {
        Self { name: name.to_owned(), s: s.as_bytes().to_vec(), r#type: attribute_type::STRING, ..Self::default() }
    }

    pub(crate) fn ints(name: &str, ints: &[i64]) -> Self {
        Self { name: name.to_owned(), ints: ints.to_vec(), r#type: attribute_type::INTS, ..Self::default() }
    }

    pub(crate) fn strings(name: &str, strings: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let strings = strings.into_iter().map(|s| s.as_ref().as_bytes().to_vec()).collect();
        Self { name: name.to_owned(), strings, r#type: attribute_type::STRINGS, ..Self::default() }
    }
}

/// A constant; `raw_data` is little-endian.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

impl TensorProto {
    pub(crate) fn raw(name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Self {
        Self { dims: dims.iter().map(|d| *d as i64).collect(), data_type, name: name.to_owned(), raw_data, ..Self::default() }
    }

    /// A constant whose bytes lie in a file beside the graph.
    pub(crate) fn external(name: &str, dims: &[usize], data_type: i32, file: &str, offset: u64, length: u64) -> Self {
        const EXTERNAL: i32 = 1;
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        let place = vec![entry("location", file.to_owned()), entry("offset", offset.to_string()), entry("length", length.to_string())];
        Self { external_data: place, data_location: EXTERNAL, ..Self::raw(name, dims, data_type, Vec::new()) }
    }

    /// Where the bytes of an external constant begin.
    pub(crate) fn place(&self) -> Option<u64> {
        self.external_data.iter().find(|entry| entry.key == "offset").and_then(|entry| entry.value.parse().ok())
    }

    pub(crate) fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        Self::raw(name, dims, data_type::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn doubles(name: &str, dims: &[usize], values: &[f64]) -> Self {
        Self::raw(name, dims, data_type::DOUBLE, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn ints(name: &str, dims: &[usize], values: &[i64]) -> Self {
        Self::raw(name, dims, data_type::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn bits(name: &str, dims: &[usize], values: &[u64]) -> Self {
        Self::raw(name, dims, data_type::UINT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; only tensors are used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// A dimension; neither value means unknown.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DimensionProto {
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// The value of a dimension.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Dimension {
    /// A fixed size.
    #[prost(int64, tag = "1")]
    Size(i64),
    /// A name; equal names are equal sizes in one call.
    #[prost(string, tag = "2")]
    Name(String),
}
