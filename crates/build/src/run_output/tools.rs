//! How tools report that the network failed. Each form is that of the tool's own source; `tests.rs` has
//! recorded outputs.

/// What a line means to a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The network or a server failed: another attempt may succeed.
    Transient,
    /// The tool failed for a reason that stays: not found, denied, another hash.
    Lasting,
    /// It may follow the others, and decides nothing.
    Follows,
    /// It is of something else.
    Other,
}
use Meaning::{Follows, Lasting, Other, Transient};

/// A tool that fetches.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Whether it is called for each file, and its output may be piped into another program.
    pub(super) is_single: bool,
    pub(super) meaning: fn(&str) -> Meaning,
    /// Its report has so many lines at least, where its exit status proves little.
    pub(super) lines: usize,
    /// Whether it ends with an exit status after it reported a line.
    pub(super) exits: fn(&str, i32) -> bool,
}

/// The tools that are known.
pub(super) const TOOLS: [Tool; 12] = [
    Tool { name: "apt", is_single: false, lines: 1, meaning: apt, exits: |_, code| code == 100 },
    Tool {
        name: "curl",
        is_single: true,
        lines: 1,
        meaning: curl,
        exits: |line, code| curl_code(line) == Some(code),
    },
    Tool {
        name: "wget",
        is_single: true,
        lines: 1,
        meaning: wget,
        exits: |_, code| matches!(code, 1 | 4 | 8),
    },
    Tool { name: "git", is_single: false, lines: 1, meaning: git, exits: |_, code| matches!(code, 1 | 128) },
    Tool { name: "cargo", is_single: false, lines: 1, meaning: cargo, exits: |_, code| code == 101 },
    Tool { name: "pip", is_single: false, lines: 2, meaning: pip, exits: |_, code| matches!(code, 1 | 2) },
    Tool { name: "npm", is_single: false, lines: 2, meaning: npm, exits: |_, _| true },
    Tool { name: "dnf", is_single: false, lines: 1, meaning: dnf, exits: |_, code| code == 1 },
    Tool {
        name: "zypper",
        is_single: false,
        lines: 2,
        meaning: zypper,
        exits: |_, code| matches!(code, 1 | 4..=8 | 104 | 106),
    },
    Tool { name: "apk", is_single: false, lines: 2, meaning: apk, exits: |_, code| (1..100).contains(&code) },
    Tool { name: "pacman", is_single: false, lines: 2, meaning: pacman, exits: |_, code| code == 1 },
    Tool { name: "go", is_single: false, lines: 1, meaning: go, exits: |_, code| code == 1 },
];

/// Whether a line is of a program that reads what another one fetched: it fails because it gets nothing.
pub(super) fn consumes(line: &str) -> bool {
    [
        "tar: ",
        "gzip: ",
        "bzip2: ",
        "xz: ",
        "(standard input)",
        "gpg: no valid OpenPGP data",
        "gpg: Total number",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn starts(line: &str, with: &[&str]) -> bool {
    with.iter().any(|start| line.starts_with(start))
}

fn has(line: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| line.contains(text))
}

/// The number that follows a text.
fn number_after(line: &str, text: &str) -> Option<u16> {
    let (_, rest) = line.split_once(text)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The meaning of an HTTP status: a server that is in trouble, or has too much to do.
const fn status(code: u16) -> Meaning {
    match code {
        429 | 500..=599 => Transient,
        _ => Lasting,
    }
}

/// Results of libcurl that another attempt may change: names, connections, timeouts, transfers that end
/// early.
const fn is_curl_transient(code: u16) -> bool {
    matches!(code, 5 | 6 | 7 | 16 | 18 | 28 | 52 | 55 | 56 | 92)
}

/// A TLS connection that was cut, in contrast to one that was refused.
fn is_cut(line: &str) -> bool {
    has(line, &["reset by peer", "SYSCALL", "timed out", "unexpected eof", "Broken pipe"])
}

/// Of programs that report libcurl's text instead of its number.
fn curl_text(line: &str) -> Meaning {
    const TEXTS: [&str; 12] = [
        "Could not resolve host",
        "Couldn't resolve host",
        "Failed to connect to",
        "Couldn't connect to server",
        "Connection timed out",
        "Operation timed out",
        "Operation too slow",
        "Connection reset by peer",
        "Empty reply from server",
        "SSL_ERROR_SYSCALL",
        "GnuTLS recv error",
        "transfer closed with",
    ];
    match number_after(line, "The requested URL returned error: ").or(number_after(line, "HTTP response: ")) {
        Some(code) => status(code),
        None if has(line, &TEXTS) => Transient,
        None => Other,
    }
}

/// Why apt could not fetch, where another try may succeed.
const APT_REASONS: [&str; 20] = [
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect to",
    "Unable to connect to",
    "Cannot initiate the connection",
    "Connection failed",
    "Connection timed out",
    "connection timed out",
    "Connection reset",
    "Connection refused",
    "Network is unreachable",
    "Data socket timed out",
    "Could not handshake",
    "Error reading from server",
    "Read error",
    "Undetermined Error",
    "Something wicked happened resolving",
    "Mirror sync in progress?",
    "Hash Sum mismatch",
    "Clearsigned file isn't valid, got 'NOSPLIT'",
];

/// How lines of apt begin that neither explain nor end a failure.
const APT_LINES: [&str; 21] = [
    "E: ",
    "W: ",
    "N: ",
    "Error: ",
    "Warning: ",
    "Notice: ",
    "Err:",
    "Ign:",
    "Hit:",
    "Get:",
    "Fetched ",
    "Reading ",
    "Building ",
    "Need to get ",
    "After this operation",
    "  ",
    "Hashes of ",
    "Last modification ",
    "Release file created",
    "Some packages could not",
    "Solving dependencies",
];

fn apt(line: &str) -> Meaning {
    let failed = starts(
        line,
        &[
            "E: Failed to fetch ",
            "W: Failed to fetch ",
            "Error: Failed to fetch ",
            "Warning: Failed to fetch ",
        ],
    );
    // The reason of an `Err:` line is on the line after it.
    let reason = if failed {
        line.split_once("  ").map_or("", |(_, reason)| reason)
    } else {
        line.strip_prefix("  ").unwrap_or_default()
    };
    let code =
        reason.get(..5).filter(|start| start.ends_with("  ")).and_then(|start| start.trim().parse().ok());
    match code {
        Some(code) => return status(code),
        None if starts(reason, &APT_REASONS) => return Transient,
        None if has(line, &["NO_PUBKEY", "is not signed", "has no installation candidate"]) => {
            return Lasting;
        }
        None => {}
    }
    if starts(line, &APT_LINES) { Follows } else { Other }
}

/// The code in `curl: (6) Could not resolve host: x`.
fn curl_code(line: &str) -> Option<i32> {
    line.strip_prefix("curl: (")?.split_once(") ")?.0.parse().ok()
}

fn curl(line: &str) -> Meaning {
    let Some(code) = curl_code(line) else {
        let is_meter = starts(line, &["  % Total", "                                 Dload", "Warning: "])
            || (!line.is_empty() && line.chars().all(|c| c.is_ascii_digit() || " :.-kMG\r".contains(c)));
        return if is_meter { Follows } else { Other };
    };
    match u16::try_from(code).unwrap_or_default() {
        22 => number_after(line, "returned error: ").map_or(Lasting, status),
        35 if is_cut(line) => Transient,
        code if is_curl_transient(code) => Transient,
        _ => Lasting,
    }
}

fn wget(line: &str) -> Meaning {
    let is_dated = line.get(..2) == Some("20") && line.chars().nth(4) == Some('-');
    if let Some(code) = number_after(line, " ERROR ").filter(|_| is_dated) {
        return status(code);
    }
    if let Some(code) = number_after(line, "wget: server returned error: HTTP/1.1 ") {
        return status(code);
    }
    let is_connecting = starts(line, &["failed: ", "Connecting to ", "Resolving "]);
    let reasons =
        ["failed: Connection ", "failed: Temporary failure", "failed: Network is", "failed: No route"];
    let own = [
        "wget: unable to resolve host address",
        "wget: bad address",
        "wget: can't connect",
        "wget: download timed out",
        "Read error (",
    ];
    if (is_connecting && has(line, &reasons)) || starts(line, &own) {
        return Transient;
    }
    let follows = [
        "--20",
        "Connecting to ",
        "Resolving ",
        "HTTP request sent",
        "Giving up.",
        "Retrying.",
        "Reusing ",
        "Length: ",
        "Saving to: ",
        "http://",
        "https://",
    ];
    if starts(line, &follows) { Follows } else { Other }
}

fn git(line: &str) -> Meaning {
    if starts(line, &["fatal: unable to access ", "error: RPC failed; "]) {
        if let Some(code) = number_after(line, "; HTTP ") {
            return status(code);
        }
        return match (curl_text(line), number_after(line, "; curl ")) {
            (Other, Some(code)) if is_curl_transient(code) => Transient,
            (Other, _) if line.contains("gnutls_handshake") || is_cut(line) => Transient,
            (Other, _) => Lasting,
            (meaning, _) => meaning,
        };
    }
    let ssh = ["Connection refused", "Connection timed out", "Network is unreachable", "No route to host"];
    if starts(
        line,
        &["ssh: Could not resolve hostname ", "fatal: unable to look up ", "fatal: unable to connect to "],
    ) || (line.starts_with("ssh: connect to host ") && has(line, &ssh))
    {
        return Transient;
    }
    let lasting = ["not found", "could not read Username", "Authentication failed", "Permission denied"];
    if line.starts_with("fatal: ") && has(line, &lasting) {
        return Lasting;
    }
    let own = [
        "fatal: ",
        "error: ",
        "Cloning into ",
        "fetch-pack: ",
        "Failed to clone ",
        "remote: ",
        "Unable to checkout",
        "Please make sure you have the correct",
        "and the repository exists.",
    ];
    if starts(line, &own) || line.contains(": errno=") { Follows } else { Other }
}

fn cargo(line: &str) -> Meaning {
    if line.starts_with("warning: spurious network error") {
        return Transient;
    }
    if line.starts_with("  ") && !line.starts_with("   ") {
        if let Some(code) =
            number_after(line, "), got ").filter(|_| line.contains("successful HTTP response"))
        {
            return status(code);
        }
        let code = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("] "));
        if let Some(code) = code.and_then(|(code, _)| code.parse().ok()) {
            return if is_curl_transient(code) || (code == 35 && is_cut(line)) { Transient } else { Lasting };
        }
        return if has(line, &["  Downloaded ", "  Downloading "]) { Other } else { Follows };
    }
    if has(line, &["no matching package", "failed to verify the checksum"]) {
        return Lasting;
    }
    if starts(line, &["Caused by:", "error: failed to ", "error: unable to ", "body:"]) {
        Follows
    } else {
        Other
    }
}

fn pip(line: &str) -> Meaning {
    let of_pool =
        ["Read timed out", "Max retries exceeded", "Connection aborted", "NewConnectionError", "too many 50"];
    if (line.starts_with("WARNING: Retrying (Retry(total=0,") && line.contains("connection broken by"))
        || (starts(
            line,
            &[
                "pip._vendor.",
                "ERROR: Could not install packages due to an OSError: ",
                "requests.exceptions.",
            ],
        ) && has(line, &of_pool))
    {
        return Transient;
    }
    if let Some(code) = number_after(line, "ERROR: HTTP error ") {
        return status(code);
    }
    if line.contains("DO NOT MATCH THE HASHES") {
        return Lasting;
    }
    if starts(line, &["WARNING: ", "ERROR: ", "[notice]", "Collecting ", "  "]) { Follows } else { Other }
}

fn npm(line: &str) -> Meaning {
    const CODES: [&str; 9] = [
        "EAI_AGAIN",
        "ENOTFOUND",
        "ETIMEDOUT",
        "ECONNRESET",
        "ECONNREFUSED",
        "ERR_SOCKET_TIMEOUT",
        "EPIPE",
        "ENETUNREACH",
        "EHOSTUNREACH",
    ];
    if line.starts_with("error An unexpected error occurred: ") || line.contains(" ERR_PNPM_") {
        let is_transient =
            has(line, &CODES) || has(line, &["Request failed \"5", "ERR_PNPM_FETCH_5", "socket hang up"]);
        return if is_transient { Transient } else { Lasting };
    }
    let Some(rest) = line.strip_prefix("npm error").or_else(|| line.strip_prefix("npm ERR!")) else {
        return if starts(line, &["info If you think", "info Visit ", "npm "]) { Follows } else { Other };
    };
    let Some(code) = rest.trim_start().strip_prefix("code ").map(str::trim) else { return Follows };
    if CODES.contains(&code) {
        return Transient;
    }
    code.strip_prefix('E').and_then(|number| number.parse().ok()).map_or(Lasting, status)
}

fn dnf(line: &str) -> Meaning {
    let own = [
        "  - ",
        ">>> ",
        "Error: ",
        "error: ",
        "[MIRROR] ",
        "[FAILED] ",
        "Errors during downloading ",
        "Failed to download ",
        " Cannot ",
        " Librepo error",
        "Ignoring repositories: ",
        "The downloaded packages were saved",
        "You can remove cached packages",
        "Updating and loading",
        "Repositories loaded",
        "Downloading ",
    ];
    if starts(
        line,
        &[
            "No match for argument",
            "Error: Unable to find a match",
            "error: No package matches",
            "Error: GPG",
        ],
    ) {
        return Lasting;
    }
    if !starts(line, &own) {
        return if line.contains("B/s |") { Follows } else { Other };
    }
    // A mirror that is behind reports 404, and the next one is asked.
    let is_status = number_after(line, "Status code: ").is_some_and(|code| status(code) == Transient);
    let is_curl = number_after(line, "Curl error (")
        .is_some_and(|code| is_curl_transient(code) || (code == 35 && is_cut(line)));
    if is_status || is_curl { Transient } else { Follows }
}

fn zypper(line: &str) -> Meaning {
    if starts(line, &["Error code: Connection failed", "Timeout exceeded when accessing "]) {
        return Transient;
    }
    if starts(line, &["Error code: ", "Error message: "]) {
        let by_number = number_after(line, "Curl error ").is_some_and(is_curl_transient);
        return match curl_text(line) {
            Other if by_number => Transient,
            Other => Follows,
            meaning => meaning,
        };
    }
    let own = [
        "Download (curl) error for ",
        "Problem retrieving ",
        "Problem occurred ",
        "Abort, retry, ignore?",
        "Some of the repositories",
        "Could not refresh ",
        "Please check if the URIs",
        "Skipping repository ",
        "Warning: Skipping",
        "Warning: ",
        "Repository '",
        "History:",
        " - ",
        "Error building the cache",
        "Valid metadata not found",
        "Retrieving ",
        "[|] Error",
        "Package '",
        "No provider of ",
        "Loading repository data",
        "Reading installed packages",
        "Resolving package",
        "File '",
        "Trying again",
        "[",
    ];
    if starts(line, &own) { Follows } else { Other }
}

fn apk(line: &str) -> Meaning {
    let reasons = [
        "temporary error (try again later)",
        "DNS lookup error",
        "network error (check Internet",
        "DNS: transient error",
        "could not connect to server",
        "HTTP 5",
    ];
    if starts(line, &["WARNING: ", "ERROR: "]) {
        return if has(line, &reasons) { Transient } else { Follows };
    }
    if line.starts_with("  ") || line.starts_with("fetch ") { Follows } else { Other }
}

fn pacman(line: &str) -> Meaning {
    if line.starts_with("error: failed retrieving file ") {
        // Every mirror of the list is asked: one that is behind does not decide.
        return if curl_text(line) == Transient { Transient } else { Follows };
    }
    let own =
        ["error: failed to ", "warning: ", ":: ", "error: failed retrieving", "Errors occurred, no packages"];
    if starts(line, &own) { Follows } else { Other }
}

fn go(line: &str) -> Meaning {
    let reasons = [
        "i/o timeout",
        "connection refused",
        "connection reset",
        "server misbehaving",
        "no such host",
        "network is unreachable",
    ];
    let is_own = starts(line, &["go: ", "\t"]);
    let is_dialling = line.contains("dial tcp") && has(line, &reasons);
    let is_server = has(
        line,
        &[": 500 ", ": 502 Bad Gateway", ": 503 Service", ": 504 Gateway", "TLS handshake timeout"],
    );
    match is_own {
        true if is_dialling || is_server => Transient,
        true => Follows,
        false => Other,
    }
}
