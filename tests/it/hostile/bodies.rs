//! Bodies whose chunks make no sense.

use super::{Scene, all};

#[tokio::test]
async fn bad_chunks_never_end_a_request_at_the_upstream() {
    let scene = Scene::start().await;
    let bodies: [&[u8]; 14] = [
        b"zz\r\nbody\r\n0\r\n\r\n",
        b"-4\r\nbody\r\n0\r\n\r\n",
        b"+4\r\nbody\r\n0\r\n\r\n",
        b"0x4\r\nbody\r\n0\r\n\r\n",
        b" 4\r\nbody\r\n0\r\n\r\n",
        b"4 \r\nbody\r\n0\r\n\r\n",
        b"4\nbody\r\n0\r\n\r\n",
        b"4\r\nbodyX\r\n0\r\n\r\n",
        b"4\r\nbody\n0\r\n\r\n",
        b"fffffffffffffffff\r\nbody\r\n0\r\n\r\n",
        b"10000000000000004\r\nbody\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"4;x=\0\r\nbody\r\n0\r\n\r\n",
        b"4\r\nbody\r\n0\r\nX : y\r\n\r\n",
    ];
    for entrance in &scene.entrances {
        for body in bodies {
            let before = scene.witness.seen().len();
            let mut peer = entrance.open().await;
            let head = b"POST /evil HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
            let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
            let request = entrance.written(&[head, body, smuggled].concat());
            peer.write(&request).await;
            let got = all(&mut peer).await;
            let at = format!("{:?} at {}", body.escape_ascii().to_string(), entrance.name);
            // The upstream may have been asked by then; whatever it said, nothing follows.
            assert!(got.is_empty() || got.starts_with("HTTP/1.1 400 "), "{at}: {got}");
            let seen = scene.witness.seen().split_off(before);
            assert!(!seen.contains("smuggled") && !seen.ends_with("0\r\n\r\n"), "{at}: {seen}");
        }
        scene.serves(entrance).await;
    }
}
