//! Jobs on a store that is a service: the one named by SERVICE, if any.

mod tool;

#[test]
fn jobs_survive() {
    if let Ok(url) = std::env::var("SERVICE") {
        tool::service::jobs_survive(&tool::service::on(&url, &[]));
    }
}
