//! The Chinese for complaints about `config.yaml` and `secrets.yaml`.

/// By the English text.
pub(super) const TABLE: &[(&str, &str)] = &[
    // config/authority
    ("is neither {} nor an address that begins with https://", "既不是 {}，也不是以 https:// 开头的地址"),
    // config/certificate
    ("must be an e-mail address", "必须是电子邮件地址"),
    (
        "`{}` must be the absolute path of a program; arguments are members of the list",
        "`{}` 必须是程序的绝对路径；参数写成列表的其他成员",
    ),
    (
        "`{}` is not an address like `192.0.2.53` or `192.0.2.53:5353`",
        "`{}` 不是 `192.0.2.53` 或 `192.0.2.53:5353` 这样的地址",
    ),
    ("is an address; addresses belong to `hosts`", "是 IP 地址；IP 地址应写在 `hosts` 中"),
    ("stands for a whole top-level domain", "代表了整个顶级域"),
    // config/clashes
    ("is {}, but `turn.tcp: off` takes no client by TLS", "为 {}，但 `turn.tcp: off` 时不接受 TLS 客户端"),
    ("{} is more than turn.total_bandwidth, which is {}", "{} 大于 turn.total_bandwidth（{}）"),
    ("clashes with web.port: both are {}", "与 web.port 冲突：两者都是 {}"),
    ("{}..{} contains turn.port {}", "{}..{} 包含了 turn.port {}"),
    (
        "is empty, but `turn.peers: custom` relays to nothing else",
        "为空，但 `turn.peers: custom` 时只中继到这里列出的网络",
    ),
    ("is missing, but `certificate.source: files` serves it", "缺失，但 `certificate.source: files` 时要使用它"),
    (
        "{} certifies what is known on the internet alone, and none of `hosts` is; use `self-signed`, or name a private authority by `certificate.acme_directory`",
        "{} 只为互联网上的名称和地址签发证书，而 `hosts` 中没有；请使用 `self-signed`，或用 `certificate.acme_directory` 指定私有证书机构",
    ),
    (
        "is http-01, but `web.http_port: off` leaves nobody to answer it; use tls-alpn-01",
        "为 http-01，但 `web.http_port: off` 时没有程序应答；请改用 tls-alpn-01",
    ),
    (
        "is empty, but `certificate.acme_challenge: dns-01` needs a command that adds records to the DNS",
        "为空，但 `certificate.acme_challenge: dns-01` 需要一个向 DNS 添加记录的命令",
    ),
    (
        "`{}` can be proven by dns-01 alone; name a command by `certificate.acme_dns_command`, and let `certificate.acme_challenge` be auto or dns-01",
        "`{}` 只能用 dns-01 验证；请用 `certificate.acme_dns_command` 指定命令，并把 `certificate.acme_challenge` 设为 auto 或 dns-01",
    ),
    ("`{}` is no name of the internet, and {} certifies nothing else", "`{}` 不是互联网上的名称，{} 不会为它签发证书"),
    ("is dns-01, which proves names alone, and `hosts` has none", "为 dns-01，它只能验证名称，而 `hosts` 中没有名称"),
    (
        "clashes with web.port: TCP port {} takes TURN already; choose another port",
        "与 web.port 冲突：TCP 端口 {} 已由 TURN 使用；请换一个端口",
    ),
    ("clashes with {}: both want TCP port {}", "与 {} 冲突：两者都要使用 TCP 端口 {}"),
    (
        "clashes with web.port: both want TCP port {}, but turn.bind has {} and web.bind only {}; list the same addresses in both",
        "与 web.port 冲突：两者都要使用 TCP 端口 {}，但 turn.bind 是 {}，web.bind 只有 {}；请在两处列出相同的地址",
    ),
    // config/forms
    ("is not the address of one host", "不是单个主机的地址"),
    ("is not ASCII; write the name in its `xn--` form", "不是 ASCII；请使用名称的 `xn--` 形式"),
    ("is a URL; write the name or the address alone", "是 URL；只写名称或地址"),
    ("is neither an IP address nor a DNS name", "既不是 IP 地址，也不是 DNS 名称"),
    ("is not a network like `10.0.0.0/8` or `fd00::/8`", "不是 `10.0.0.0/8` 或 `fd00::/8` 这样的网段"),
    ("has a prefix that is no number from 0 to {}", "的前缀长度不是 0 到 {} 的数"),
    ("has bits set behind its prefix; the network is `{}/{}`", "在前缀之后还有非零位；该网段是 `{}/{}`"),
    ("`{}` is not a range like `49160-51159`", "`{}` 不是 `49160-51159` 这样的范围"),
    ("{}..{} runs backwards", "{}..{} 首尾颠倒"),
    ("{}..{} starts below 1024, where other services live", "{}..{} 从 1024 以下开始，那里是其他服务的端口"),
    (
        "`{}` is neither off nor bytes a second like `250000`, `500k` or `2M`",
        "`{}` 既不是 off，也不是 `250000`、`500k`、`2M` 这样的每秒字节数",
    ),
    ("{} bytes a second carry no call; the least is {}", "每秒 {} 字节不够一次通话；至少要 {}"),
    // config/lines
    ("line {}: {}: {}", "第 {} 行：{}：{}"),
    ("line {}: {}", "第 {} 行：{}"),
    ("a second document starts here; the file must be one document", "这里开始了第二个文档；文件只能有一个文档"),
    ("column {}: this is not YAML: {}", "第 {} 列：不是合法的 YAML：{}"),
    ("nested too deeply", "嵌套过深"),
    ("a key must be a plain word", "键必须是普通的词"),
    ("anchors and aliases are not supported; write the value out", "不支持锚点和别名；请直接写出值"),
    ("a value is missing here", "这里缺少一个值"),
    ("column {}: {}", "第 {} 列：{}"),
    // config/load
    (
        "run `rtcctl{} invite --new-key`, or set `access` to open",
        "运行 `rtcctl{} invite --new-key`，或把 `access` 设为 open",
    ),
    ("`{}` does not exist", "`{}` 不存在"),
    ("`{}` is larger than a configuration can be", "`{}` 过大，不可能是配置文件"),
    ("{} bytes; at most {} are read", "{} 字节；最多读取 {} 字节"),
    ("`{}` is not UTF-8 text", "`{}` 不是 UTF-8 文本"),
    (
        "secrets.yaml, others on this machine can read it: its mode is {}",
        "secrets.yaml，本机其他用户可以读取它：权限为 {}",
    ),
    ("run `chmod 600 {}`", "运行 `chmod 600 {}`"),
    ("a mistake in {}", "{} 中有 1 处错误"),
    ("{} mistakes in {}", "{1} 中有 {0} 处错误"),
    ("correct the file, then run `rtcctl{} config check`", "改正文件，然后运行 `rtcctl{} config check`"),
    // config/migrate
    (
        "this rtcctl reads version {} at most; the file is of a later one ({})",
        "此 rtcctl 最高支持版本 {}；文件的版本更新（{}）",
    ),
    ("is written in a way that is not changed by program: {}", "的写法无法由程序修改：{}"),
    ("must be a whole number", "必须是整数"),
    // config/notify
    ("has characters that a URL must write as `%20` and the like", "含有在 URL 中必须写成 `%20` 之类的字符"),
    ("does not begin with `https://` or `http://`", "不以 `https://` 或 `http://` 开头"),
    ("has a user in it; give the token in the path or the query", "含有用户名；请把令牌放在路径或查询参数中"),
    ("has a port that is none", "的端口无效"),
    ("has a host that {}", "的主机名{}"),
    ("the URL {}", "该 URL {}"),
    // config/raw
    ("{}, not {}", "{}，而不是 {}"),
    ("the file must be keys with values", "文件必须是键和值"),
    ("must be keys with values", "必须是键和值"),
    ("is already set on line {}", "在第 {} 行已经设置过"),
    ("unknown key; did you mean `{}`?", "未知的键；是否想写 `{}`？"),
    ("unknown key; known here: {}", "未知的键；这里可用的键：{}"),
    ("must be a whole number from {} to {}", "必须是 {} 到 {} 的整数"),
    ("must be {}", "必须是 {}"),
    ("must be text", "必须是文本"),
    ("must be a list", "必须是列表"),
    ("`{}`", "`{}`"),
    ("the text `{}`", "文本 `{}`"),
    ("a list", "列表"),
    ("keys with values", "键和值"),
    // config/resolve
    (
        "this rtcctl reads version {} only; the file is of another rtcctl",
        "此 rtcctl 只支持版本 {}；该文件属于另一个版本的 rtcctl",
    ),
    (
        "is missing; list the names and addresses under which callers know this host",
        "缺失；请列出呼叫者访问本机所用的名称和地址",
    ),
    ("must have at least one name or address", "至少要有一个名称或地址"),
    ("`{}` must be an absolute path", "`{}` 必须是绝对路径"),
    ("must be a number of bytes from 64k to 10G, like 10M", "必须是 64k 到 10G 的字节数，例如 10M"),
    ("must be 1 to 32 bytes without quotes and backslashes", "必须是 1 到 32 个字节，不含引号和反斜杠"),
    ("an IP address", "IP 地址"),
    ("`{}` is not the address of one host", "`{}` 不是单个主机的地址"),
    ("IPv4", "IPv4"),
    ("IPv6", "IPv6"),
    ("`{}` is a second {} address; one is the limit", "`{}` 是第二个 {} 地址；最多一个"),
    // config/secrets
    ("this is not YAML of the form `turn_secrets: [...]`", "不是 `turn_secrets: [...]` 形式的 YAML"),
    ("is missing", "缺失"),
    ("must have at least one secret", "至少要有一个密钥"),
    ("must be a moment like 2026-11-25T19:00:00Z", "必须是 2026-11-25T19:00:00Z 这样的时间"),
    ("must be the key id, a colon and the key, for each authority", "每个证书机构都必须写成：密钥 ID、冒号、密钥"),
    ("a user's name must have 1 to {} bytes", "用户名必须有 1 到 {} 个字节"),
    ("a user's name must have no line breaks, and no spaces at its ends", "用户名不能含换行，首尾不能有空格"),
    (
        "a user's name must not start like `1700000000:`, which is how time-limited names look",
        "用户名不能以 `1700000000:` 这样的形式开头，那是限时用户名的格式",
    ),
    ("a user's password must have at least {} characters", "用户密码至少要有 {} 个字符"),
    ("a user's password must have at most {} bytes", "用户密码最多 {} 个字节"),
    ("a user's password must have no line breaks, and no spaces at its ends", "用户密码不能含换行，首尾不能有空格"),
    ("a secret must not contain spaces or line breaks", "密钥不能含空格或换行"),
    (
        "a secret has fewer than 128 bits: write at least {} characters, best `openssl rand -hex 32`",
        "密钥不足 128 位：至少写 {} 个字符，最好用 `openssl rand -hex 32` 生成",
    ),
    (
        "an access key has at most {} characters, of A-Z a-z 0-9 - . _ ~; make one by `rtcctl invite --new-key`",
        "访问密钥最多 {} 个字符，只能用 A-Z a-z 0-9 - . _ ~；可用 `rtcctl invite --new-key` 生成",
    ),
    ("the operating system gives no random numbers", "操作系统没有给出随机数"),
    (
        "{} workers on {} addresses, and {} sockets for TCP, are {} to listen on; {} at most, which are all kept while the service is started anew",
        "{} 个工作线程、{} 个地址，加上 {} 个 TCP 套接字，共监听 {} 个；最多 {} 个，服务重新启动时要全部保留",
    ),
];
