//! Stratagem: placeholder
pub mod assets;
pub mod doctor;
