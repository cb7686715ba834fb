//! Pages of `docs/reference` that follow from this crate. `cargo xtask generate` writes them, wrapped to the
//! width of documents.

mod errors;
mod events;
mod settings;

/// One page by its name: `settings`, `metrics`, `events` or `errors`.
///
/// # Errors
/// There is no such page, or something has no description.
pub fn page(name: &str) -> Result<String, String> {
    match name {
        "settings" => Ok(settings::page()),
        "metrics" => crate::metrics::reference(),
        "events" => events::page(),
        "errors" => Ok(errors::page()),
        _ => Err(format!("unknown page `{name}`: expected settings, metrics, events or errors")),
    }
}
