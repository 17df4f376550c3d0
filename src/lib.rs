//! Stratagem: placeholder
