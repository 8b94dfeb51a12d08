pub mod postgres;
pub mod random;
pub mod faults;
pub mod plan;
pub mod generate;
pub mod target;
pub mod run;
