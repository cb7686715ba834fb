//! Composition: settings, HTTP, telemetry, shutdown.
