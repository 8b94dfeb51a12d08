#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tourbillon::fuzz::mapping::run(bytes));
