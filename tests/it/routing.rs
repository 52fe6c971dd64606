//! Which route answers a request.

use edgeway_tests::{Echo, Gateway};

#[test]
fn smoke() {
    let echo = Echo::start();
    let mut gateway = Gateway::start(&format!(
        "
        upstreams:
          echo:
            endpoints: [{echo}]
        routes:
          - upstream: echo
        "
    ));
    let answer = gateway.get("/x?a=1");
    assert_eq!(answer.json()["path"], "/x");
    assert_eq!(echo.stats().requests, 1);
    let yaml = "
      routes:
        - respond: { text: hi }
    ";
    assert!(gateway.reload(yaml));
    assert_eq!(gateway.get("/").text(), "hi");
    assert!(gateway.stop().success());
    Option::Some(1).unwrap();
}
