//! Outputs that were recorded from the tools, with addresses shortened. Those of dnf, microdnf and zypper are
//! from public issues of these projects.

use super::*;

/// buildah's output around a step's.
fn step_of(instruction: &str, output: &str, exit: i32) -> Vec<String> {
    let tail = format!(
        "subprocess exited with status {exit}\nError: building at STEP \"{instruction}\": while running runtime: exit status {exit}"
    );
    format!("STEP 1/2: FROM x\nSTEP 2/2: {instruction}\n{output}\n{tail}")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// (tool, exit status, output, start of the cause)
type Case = (&'static str, i32, &'static str, &'static str);

const NETWORK: [Case; 24] = [
    (
        "apt",
        100,
        "Ign:4 http://m/debian trixie/main all Packages\nErr:3 http://m/debian trixie/main amd64 Packages\n  503  Service Unavailable [IP: 1.2.3.4 80]\nReading package lists...\nE: Failed to fetch http://m/debian/dists/trixie/main/binary-amd64/Packages  503  Service Unavailable [IP: 1.2.3.4 80]\nE: Some index files failed to download. They have been ignored, or old ones used instead.",
        "503  Service Unavailable",
    ),
    // `apt-get update` ends with 0 here: only the next command fails.
    (
        "apt",
        100,
        "Err:1 http://m/debian trixie InRelease\n  Temporary failure resolving 'm'\nReading package lists...\nW: Failed to fetch http://m/debian/dists/trixie/InRelease  Temporary failure resolving 'm'\nW: Some index files failed to download. They have been ignored, or old ones used instead.\nReading package lists...\nBuilding dependency tree...\nReading state information...\nE: Unable to locate package vim",
        "Temporary failure resolving 'm'",
    ),
    (
        "apt",
        100,
        "Err:1 http://m trixie InRelease\n  Could not connect to m:80 (1.2.3.4). - connect (111: Connection refused)\nReading package lists...\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
        "Could not connect to m:80",
    ),
    ("curl", 6, "curl: (6) Could not resolve host: nosuch.invalid", "curl: (6)"),
    (
        "curl",
        7,
        "curl: (7) Failed to connect to m port 80 after 0 ms: Couldn't connect to server",
        "curl: (7)",
    ),
    (
        "curl",
        22,
        "  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n                                 Dload  Upload   Total   Spent    Left  Speed\n  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0\ncurl: (22) The requested URL returned error: 503 Service Unavailable",
        "curl: (22)",
    ),
    // Piped: the exit status is that of tar.
    (
        "curl",
        2,
        "curl: (56) Recv failure: Connection reset by peer\n\ngzip: stdin: unexpected end of file\ntar: Child returned status 1\ntar: Error is not recoverable: exiting now",
        "curl: (56)",
    ),
    (
        "curl",
        2,
        "curl: (28) Operation timed out after 300 ms\nmake: *** [Makefile:2: all] Error 28",
        "curl: (28)",
    ),
    (
        "wget",
        8,
        "--2026-11-27 22:17:39--  http://m/x\nConnecting to m:80... connected.\nHTTP request sent, awaiting response... 503 Service Unavailable\n2026-11-27 22:17:39 ERROR 503: Service Unavailable.\n",
        "2026-11-27 22:17:39 ERROR 503",
    ),
    (
        "wget",
        4,
        "--2026-11-27 22:17:39--  http://nosuch.invalid/x\nResolving nosuch.invalid (nosuch.invalid)... failed: Name or service not known.\nwget: unable to resolve host address ‘nosuch.invalid’",
        "wget: unable to resolve",
    ),
    ("wget", 1, "wget: bad address 'nosuch.invalid'", "wget: bad address"),
    (
        "git",
        128,
        "Cloning into 'g'...\nfatal: unable to access 'http://m/r.git/': The requested URL returned error: 503",
        "fatal: unable to access",
    ),
    (
        "git",
        128,
        "Cloning into 'g'...\nerror: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.\nerror: 5183 bytes of body are still expected\nfetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
        "error: RPC failed",
    ),
    (
        "git",
        128,
        "fatal: unable to connect to m:\nm[0: 127.0.0.1]: errno=Connection refused\n",
        "fatal: unable to connect",
    ),
    (
        "cargo",
        101,
        "    Updating `l` index\nwarning: spurious network error (1 try remaining): [6] Could not resolve hostname (Could not resolve host: m)\nerror: failed to get `x` as a dependency of package `c v0.1.0 (/c)`\n\nCaused by:\n  failed to query replaced source registry `crates-io`\n\nCaused by:\n  failed to download from `http://m/config.json`\n\nCaused by:\n  [6] Could not resolve hostname (Could not resolve host: m)",
        "warning: spurious network error",
    ),
    (
        "cargo",
        101,
        "    Updating `l` index\nerror: failed to get `x` as a dependency of package `c v0.1.0 (/c)`\n\nCaused by:\n  download of config.json failed\n\nCaused by:\n  failed to get successful HTTP response from `http://m/config.json` (1.2.3.4), got 503\n  body:",
        "failed to get successful",
    ),
    (
        "pip",
        1,
        "Looking in indexes: http://m/simple\nWARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object at 0x7fa081f668d0>: Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/six/\nERROR: Could not find a version that satisfies the requirement six (from versions: none)\nERROR: No matching distribution found for six\n\n[notice] A new release of pip is available: 23.2.1 -> 26.3",
        "WARNING: Retrying",
    ),
    (
        "pip",
        2,
        "    raise RetryError(e, request=request)\npip._vendor.requests.exceptions.RetryError: HTTPConnectionPool(host='m', port=80): Max retries exceeded with url: /x-1.0.tar.gz (Caused by ResponseError('too many 503 error responses'))\n\n[notice] A new release of pip is available: 23.2.1 -> 26.3\n[notice] To update, run: pip install --upgrade pip",
        "pip._vendor.requests",
    ),
    (
        "npm",
        1,
        "npm error code E503\nnpm error 503 Service Unavailable - GET http://m/left-pad\nnpm error A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log",
        "npm error code E503",
    ),
    (
        "npm",
        1,
        "npm ERR! code EAI_AGAIN\nnpm ERR! errno EAI_AGAIN\nnpm ERR! request to https://registry.npmjs.org/react failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org\n\nnpm ERR! A complete log of this run can be found in:\nnpm ERR!     /root/.npm/_logs/2019-09-21T01_00_35_350Z-debug.log",
        "npm ERR! code EAI_AGAIN",
    ),
    (
        "dnf",
        1,
        "rhel-8-baseos                                   0.0  B/s |   0  B     00:02    \nErrors during downloading metadata for repository 'rhel-8-baseos':\n  - Curl error (6): Couldn't resolve host name for http://m/repodata/repomd.xml [Could not resolve host: m]\nError: Failed to download metadata for repo 'rhel-8-baseos': Cannot download repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried",
        "- Curl error (6)",
    ),
    (
        "dnf",
        1,
        "Errors during downloading metadata for repository 'updates':\n  - Status code: 404 for http://a/x.xml.zck (IP: 1.2.3.4)\n  - Status code: 503 for http://b/x.xml.zck (IP: 1.2.3.5)\nError: Failed to download metadata for repo 'updates': Yum repo downloading error: Downloading error(s): repodata/x.xml.zck - Cannot download, all mirrors were already tried without success",
        "- Status code: 503",
    ),
    (
        "dnf",
        1,
        "(microdnf:7): librhsm-WARNING **: 21:59:46.600: Found 0 entitlement certificates\nDownloading metadata...\nerror: cannot update repo 'ubi-8-baseos': Cannot download repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried; Last error: Curl error (28): Timeout was reached for https://m/repodata/repomd.xml [Resolving timed out after 30000 milliseconds]",
        "error: cannot update repo",
    ),
    (
        "zypper",
        4,
        "Retrieving repository 'oss' metadata [....error]\nRepository 'oss' is invalid.\n[oss|http://m/oss] Valid metadata not found at specified URL\nHistory:\n - [|] Error trying to read from 'http://m/oss'\n - Download (curl) error for 'http://m/oss/repodata/repomd.xml':\nError code: Curl error 6\nError message: Could not resolve host: m\n\nPlease check if the URIs defined for this repository are pointing to a valid repository.\nSkipping repository 'oss' because of the above error.\nCould not refresh the repositories because of errors.",
        "Error code: Curl error 6",
    ),
];

#[test]
fn a_failure_of_the_network_is_recognised_from_each_tools_output() {
    for (tool, exit, output, cause) in NETWORK {
        let report = read(&step_of("RUN fetch-it", output, exit));
        assert_eq!(report.network, Some(tool), "{output}");
        assert!(report.cause.as_ref().unwrap().starts_with(cause), "{:?} of {output}", report.cause);
        assert_eq!((report.step.as_deref(), report.exit), (Some("RUN fetch-it"), Some(exit)));
        // Something else failed afterwards.
        let later = format!("{output}\nrunning the tests\n1 test failed");
        assert_eq!(read(&step_of("RUN fetch-it", &later, exit)).network, None, "{later}");
    }
}

const IMAGE: [(&str, i32, &str, &str); 22] = [
    (
        "RUN apt-get install -y vmi",
        100,
        "Reading package lists...\nBuilding dependency tree...\nReading state information...\nE: Unable to locate package vmi\nE: Unable to locate package vim2",
        "E: Unable to locate package vmi",
    ),
    (
        "RUN apt-get update",
        100,
        "Err:4 http://m trixie/main amd64 Packages\n  404  Not Found [IP: 1.2.3.4 80]\nReading package lists...\nE: Failed to fetch http://m/dists/trixie/main/binary-amd64/Packages  404  Not Found [IP: 1.2.3.4 80]\nE: Some index files failed to download. They have been ignored, or old ones used instead.",
        "E: Failed to fetch http://m/dists",
    ),
    // One of both stays.
    (
        "RUN apt-get update",
        100,
        "E: Failed to fetch http://m/a  503  Service Unavailable [IP: 1.2.3.4 80]\nE: Failed to fetch http://m/b  404  Not Found [IP: 1.2.3.4 80]",
        "E: Failed to fetch http://m/a",
    ),
    // A package's own script fails after the download, and its text has such words.
    (
        "RUN apt-get install -y x",
        100,
        "Setting up x (1.0) ...\n503  Service Unavailable\ndpkg: error processing package x (--configure):\n installed x package post-installation script subprocess returned error exit status 1\nErrors were encountered while processing:\n x\nE: Sub-process /usr/bin/dpkg returned an error code (1)",
        "dpkg: error processing package x",
    ),
    ("RUN curl -fO http://m/x", 22, "curl: (22) The requested URL returned error: 404", "curl: (22)"),
    (
        "RUN curl -fO https://m/x",
        60,
        "curl: (60) SSL certificate problem: self-signed certificate",
        "curl: (60)",
    ),
    (
        "RUN curl -fO http://m/x && sha256sum -c sums",
        1,
        "x: FAILED\nsha256sum: WARNING: 1 computed checksum did NOT match",
        "sha256sum: WARNING: 1 computed",
    ),
    // The exit status is not curl's: something else failed.
    ("RUN ./fetch.sh", 1, "curl: (6) Could not resolve host: m", "curl: (6)"),
    (
        "RUN echo 'curl: (6) Could not resolve host: m'; exit 6",
        6,
        "curl: (6) Could not resolve host: m",
        "curl: (6)",
    ),
    ("RUN ./x", 1, "E: Failed to fetch http://m/a  503  Service Unavailable", "E: Failed to fetch"),
    ("RUN ./x", 1, "503 Service Unavailable\nConnection timed out", "Connection timed out"),
    ("RUN ./x", 1, "npm error code E503", "npm error code E503"),
    (
        "RUN git clone http://m/r.git",
        128,
        "Cloning into 'r'...\nfatal: repository 'http://m/r.git/' not found",
        "fatal: repository",
    ),
    (
        "RUN git clone https://m/r.git",
        128,
        "Cloning into 'r'...\nfatal: unable to access 'https://m/r.git/': The requested URL returned error: 403",
        "fatal: unable to access",
    ),
    (
        "RUN cargo fetch",
        101,
        "    Updating `l` index\nerror: failed to get `x` as a dependency of package `c v0.1.0 (/c)`\n\nCaused by:\n  failed to query replaced source registry `crates-io`\n\nCaused by:\n  config.json not found in registry",
        "error: failed to get `x`",
    ),
    (
        "RUN pip install nosuch",
        1,
        "ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)\nERROR: No matching distribution found for nosuch",
        "ERROR: Could not find a version",
    ),
    (
        "RUN pip install -r r.txt",
        1,
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes.\n    six from http://m/six-1.16.0.whl:\n        Expected sha256 00\n             Got        8a",
        "ERROR: THESE PACKAGES",
    ),
    (
        "RUN npm install",
        1,
        "npm error code E404\nnpm error 404 Not Found - GET http://m/left-pad\nnpm error 404\nnpm error A complete log of this run can be found in: /root/x.log",
        "npm error 404 Not Found",
    ),
    (
        "RUN dnf install -y nosuch",
        1,
        "Last metadata expiration check: 0:00:01 ago on Fri 27 Nov 2026.\nNo match for argument: nosuch\nError: Unable to find a match: nosuch",
        "Error: Unable to find a match: nosuch",
    ),
    (
        "RUN dnf install -y x",
        1,
        "Errors during downloading metadata for repository 'updates':\n  - Status code: 404 for http://a/repomd.xml (IP: 1.2.3.4)\nError: Failed to download metadata for repo 'updates': Cannot download repomd.xml",
        "Error: Failed to download metadata",
    ),
    (
        "RUN make",
        2,
        "cc -c x.c\nx.c:3:5: error: unknown type name 'foo'\n    3 |     foo x;\n      |     ^~~\nmake: *** [Makefile:2: x.o] Error 1",
        "x.c:3:5: error: unknown type name",
    ),
    (
        "RUN python3 x.py",
        1,
        "Traceback (most recent call last):\n  File \"/x.py\", line 1, in <module>\n    import nosuch\nModuleNotFoundError: No module named 'nosuch'",
        "ModuleNotFoundError: No module named",
    ),
];

#[test]
fn everything_else_is_the_images_fault_and_its_cause_is_the_headline() {
    for (instruction, exit, output, cause) in IMAGE {
        let report = read(&step_of(instruction, output, exit));
        assert_eq!(report.network, None, "{output}");
        assert!(report.cause.as_ref().unwrap().starts_with(cause), "{:?} of {output}", report.cause);
    }
}

#[test]
fn a_step_that_prints_nothing_is_named() {
    let report = read(&step_of("RUN false", "", 1));
    assert_eq!((report.cause, report.step.as_deref(), report.exit), (None, Some("RUN false"), Some(1)));
    // buildah 1.28, with chroot isolation.
    let old =
        ["[2/2] STEP 2/2: RUN [\"/c\"]", "usage: c", "error building at STEP \"RUN /c\": exit status 2"];
    let report = read(&old.map(str::to_owned));
    assert_eq!((report.cause.as_deref(), report.exit), (Some("usage: c"), Some(2)));
    assert_eq!(read(&[]), Report::default());
    // Only the failed step counts.
    let lines =
        ["STEP 1/2: RUN a", "curl: (6) Could not resolve host: m", "STEP 2/2: RUN b", "exit status 6"];
    assert_eq!(read(&lines.map(str::to_owned)).network, None);
}

proptest::proptest! {
    #[test]
    fn no_output_is_too_strange(lines in proptest::collection::vec(".{0,40}", 0..12)) {
        let report = read(&lines);
        proptest::prop_assert!(report.cause.is_none_or(|cause| cause.chars().count() <= MAX_SHOWN + 1));
    }
}
