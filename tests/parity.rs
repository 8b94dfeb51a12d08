//! The store against a real server: random schedules of primitive statements, every reply, error and block compared.
//! Thousands of them are the nightly command's affair.

use crate::stage::server;
use tourbillon::parity::sweep;
use tourbillon::postgres::one_cpu::OneCpu;

#[test]
fn the_store_answers_blocks_and_fails_as_postgresql_does() {
    let _one = OneCpu::claim();
    let Some(mut server) = server() else { return };
    let report = sweep(&mut server, 0..300, |_| {}).expect("the server stays");
    let told: Vec<String> = report.divergences.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
    assert_eq!(report.schedules, 300);
}
