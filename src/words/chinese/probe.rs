//! The Chinese for what asks the service, and `turn test`.

/// By the English text.
pub(super) const TABLE: &[(&str, &str)] = &[
    // probe/fault
    ("nothing listens on `{}/{}`", "`{}/{}` 没有程序在监听"),
    ("no answer from `{}/{}` in time", "`{}/{}` 没有及时应答"),
    ("no answer from `{}/{}`: {}", "`{}/{}` 没有应答：{}"),
    // probe/https
    ("`{}/tcp` answers, but not as HTTP", "`{}/tcp` 有应答，但不是 HTTP"),
    // probe/leaf
    ("`{}/tcp` presents no certificate that can be read", "`{}/tcp` 没有出示可读取的证书"),
    // probe
    ("health was answered by status {}", "健康检查的应答状态是 {}"),
    ("the Socket.IO handshake was answered by status {}", "Socket.IO 握手的应答状态是 {}"),
    // probe/rooms
    ("a third was let into a room of two", "两人房间放进了第三个人"),
    ("a third hears what two say to each other", "第三个人听到了另外两人的内容"),
    ("a hello", "问候"),
    ("to be connected", "连接建立"),
    ("a peer was not let into a room: {}", "一方未能进入房间：{}"),
    ("an answer to `join`", "对 `join` 的应答"),
    ("the event `{}`", "事件 `{}`"),
    ("a peer waits for {}", "一方在等待 {}"),
    ("a peer waits for {} and hears everything else", "一方在等待 {}，却收到了其他内容"),
    // probe/stun
    ("`{}/udp` sees us as `{}`, and not as `{}`", "`{}/udp` 看到我们的地址是 `{}`，而不是 `{}`"),
    ("`{}/tcp` answers, but not as STUN", "`{}/tcp` 有应答，但不是 STUN"),
    ("`{}/udp` answers, but not as STUN", "`{}/udp` 有应答，但不是 STUN"),
    // probe/time
    ("`{}/udp` answers, but not as a time server that knows the time", "`{}/udp` 有应答，但不是知道时间的时间服务器"),
    // probe/tls
    ("cannot configure a TLS client: {}", "无法配置 TLS 客户端：{}"),
    ("`{}` cannot be said in a handshake: {}", "`{}` 不能用于握手：{}"),
    ("cannot make a TLS client: {}", "无法建立 TLS 客户端：{}"),
    ("`{}/tcp` closed the connection in the handshake", "`{}/tcp` 在握手时关闭了连接"),
    // probe/trusted
    ("this host has no bundle of authorities", "本机没有证书机构的证书包"),
    (
        "no authority that this host knows has issued it, or the chain lacks the one in between",
        "签发它的不是本机已知的证书机构，或证书链缺少中间证书",
    ),
    ("it is not valid yet", "它尚未生效"),
    ("it is not for `{}`", "它不是为 `{}` 签发的"),
    ("it is revoked", "它已被吊销"),
    // probe/turn/deep
    ("Refresh of what has ended", "对已结束的分配的 Refresh"),
    ("an allocation goes on after it was ended", "分配结束后仍然存在"),
    ("{} for {} is granted", "允许了对 {1} 的 {0}"),
    ("{} for {}", "对 {1} 的 {0}"),
    ("a wrong password", "错误的密码"),
    ("an expired credential", "过期的凭据"),
    ("an allocation is granted to {}", "{}也得到了分配"),
    ("no socket to listen with: {}", "没有可监听的套接字：{}"),
    ("data sent to {} arrives there", "发往 {} 的数据到达了那里"),
    (
        "Allocate: the relayed address is `{}`, which is none of the relay's",
        "Allocate：中继地址是 `{}`，不是本中继的地址",
    ),
    ("Allocate: the answer has no relayed address", "Allocate：应答中没有中继地址"),
    ("the first Allocate to `{}`", "发往 `{}` 的第一个 Allocate"),
    ("ChannelData: what one client sends does not reach the other", "ChannelData：一个客户端发出的内容没有到达另一个"),
    ("no answer in time", "没有及时应答"),
    ("the connection was closed", "连接被关闭"),
    ("what answers does not speak STUN", "应答的不是 STUN"),
    ("granted without credentials", "没有凭据也被允许"),
    ("refused by {}", "被拒绝（{}）"),
    ("the answer has no {}", "应答中没有 {}"),
    // probe/turn/hints
    ("the server, or something in between, ended the connection", "服务器或中间设备结束了连接"),
    (
        "look in the server's log; check that it speaks TURN on port {} at all",
        "查看服务器的日志；检查它在端口 {} 上是否提供 TURN",
    ),
    (
        "another service has port {}, or a proxy in between changes what goes through",
        "端口 {} 属于其他服务，或中间的代理修改了内容",
    ),
    (
        "put the TURN server's port into the URL; where a web server shares port 443, let it pass what is not HTTP on by its first bytes, since TURN clients send no ALPN",
        "在 URL 中写 TURN 服务器的端口；如果 Web 服务器共用端口 443，让它按首字节放行非 HTTP 的内容，因为 TURN 客户端不发送 ALPN",
    ),
    ("anybody may use this relay", "任何人都可以使用这个中继"),
    (
        "the server grants allocations without credentials: strangers can hide behind it, and reach its network",
        "服务器不要凭据就给予分配：陌生人可以借它隐藏身份，并访问它的网络",
    ),
    ("require credentials; time-limited ones are best", "要求凭据；最好是限时凭据"),
    (
        "the server is misconfigured, or an application-level gateway in between rewrote the answer",
        "服务器配置有误，或中间的应用层网关改写了应答",
    ),
    (
        "set a realm in the server's configuration: without one clients are challenged for ever",
        "在服务器配置中设置 realm：没有它，客户端会被不断要求认证",
    ),
    ("try TURN over TLS, which nothing in between can rewrite", "改用 TLS 上的 TURN，中间设备无法改写"),
    ("connection refused", "连接被拒绝"),
    ("nothing listens on port {} there", "那里的端口 {} 没有程序在监听"),
    (
        "start the server, or correct the port; a server that may not bind a port below 1024, or whose certificate its user cannot read, often starts without that listener and says so in its log only",
        "启动服务器，或改正端口；不能使用 1024 以下端口、或其用户不能读取证书的服务器，往往不带该监听端口启动，只在日志中说明",
    ),
    ("no route", "没有路由"),
    (
        "if it is IPv6 that has no route, callers in such networks see the same: publish an AAAA record only if the server can be reached by it",
        "如果是 IPv6 没有路由，这类网络中的呼叫者也会如此：只有能通过 IPv6 访问服务器时才发布 AAAA 记录",
    ),
    ("no connection in time", "没有及时建立连接"),
    (
        "packets to port {} are dropped, not refused: that is what firewalls do",
        "到端口 {} 的数据包被丢弃而不是拒绝：防火墙就是这样做的",
    ),
    ("open {} in the host's firewall and in the cloud's security group", "在主机的防火墙和云的安全组中放行 {}"),
    ("the operating system refuses", "操作系统拒绝"),
    (
        "the reason above is the kernel's: what it names is to be put right first",
        "以上原因来自内核：请先解决它所指出的问题",
    ),
    ("packets to port {} get lost, or the answers do", "到端口 {} 的数据包丢失，或应答丢失"),
    (
        "open {} in the host's firewall and in the cloud's security group; where the caller's own network blocks UDP, offer `?transport=tcp` and `turns:` as well",
        "在主机的防火墙和云的安全组中放行 {}；如果呼叫者的网络拦截 UDP，还要提供 `?transport=tcp` 和 `turns:`",
    ),
    ("the server answered before and does not answer this", "服务器之前有应答，对此没有应答"),
    (
        "look in the server's log; a server under attack may limit what it answers to one address",
        "查看服务器的日志；受到攻击的服务器可能限制对同一地址的应答",
    ),
    (
        "serve the whole chain, with the intermediate certificates; native apps know fewer authorities than browsers, so keep `turn:` by UDP and TCP next to `turns:`. A local authority has to be trusted on every device",
        "提供完整的证书链，包括中间证书；原生应用认识的证书机构比浏览器少，因此在 `turns:` 之外保留 UDP 和 TCP 的 `turn:`。本地 CA 必须在每台设备上被信任",
    ),
    (
        "renew the certificate and have the server load it: a server that reads it at its start only serves the old one until it is restarted",
        "更新证书，并让服务器加载：只在启动时读取证书的服务器，在重启之前一直使用旧证书",
    ),
    (
        "use a name that is in the certificate, or get a certificate for this one; for a bare address offer `turn:...?transport=tcp` instead of `turns:`",
        "使用证书中的名称，或为此名称申请证书；对于 IP 地址，用 `turn:...?transport=tcp` 代替 `turns:`",
    ),
    (
        "something without TLS answers there: check the port, and that the server could read its certificate and key",
        "那里应答的不是 TLS：检查端口，以及服务器能否读取证书和私钥",
    ),
    (
        "try it by `openssl s_client -connect {}`, and look in the server's log",
        "用 `openssl s_client -connect {}` 测试，并查看服务器的日志",
    ),
    ("the certificate is of an authority that is not trusted", "签发证书的机构不受信任"),
    ("the certificate is not valid now", "证书现在无效"),
    ("the certificate is for other names", "证书用于其他名称"),
    ("what answers does not speak TLS", "应答的不是 TLS"),
    ("no TLS", "没有 TLS"),
    ("refused: {} {}", "被拒绝：{} {}"),
    ("the server wants credentials for STUN, which browsers do not send", "服务器要求 STUN 也带凭据，而浏览器不会发送"),
    ("let the server answer Binding requests without credentials", "让服务器不要凭据就应答 Binding 请求"),
    ("the server's rules deny its own relay address", "服务器的规则禁止了它自己的中继地址"),
    (
        "two callers who both need the relay meet there: take the relay's own address out of the denied peers, also where a denied private network contains it",
        "两个都需要中继的呼叫者在那里会合：从禁止的对端中去掉中继自己的地址，禁止的内网网段包含它时也要去掉",
    ),
    ("the server sends callers elsewhere", "服务器让呼叫者去别处"),
    ("test the server it names", "测试它指出的服务器"),
    ("this client, or this user, may not do that", "此客户端或此用户不允许这样做"),
    ("look at the server's rules for clients and peers", "检查服务器对客户端和对端的规则"),
    (
        "the server does not know the allocation, or has another one for this address",
        "服务器不认识此分配，或对此地址有另一个分配",
    ),
    (
        "look whether the server was restarted, or whether something balances packets of one client over several servers",
        "检查服务器是否重启过，或是否有负载均衡把同一客户端的数据包分到多个服务器",
    ),
    ("the server calls every nonce stale", "服务器认为每个 nonce 都过期"),
    (
        "look whether several servers answer under this address without sharing their nonces",
        "检查是否有多个服务器使用此地址而没有共享 nonce",
    ),
    ("the server has no relay address of that family", "服务器没有该协议族的中继地址"),
    (
        "give the relay an address of the family callers need; browsers get IPv4 unless they ask",
        "为中继提供呼叫者需要的协议族的地址；浏览器默认得到 IPv4",
    ),
    ("the allocation belongs to another user", "分配属于另一个用户"),
    ("test again from another port: an earlier allocation is still there", "换一个端口再测：之前的分配仍然存在"),
    ("the server relays no UDP", "服务器不中继 UDP"),
    ("allow UDP relays in the server's configuration", "在服务器配置中允许 UDP 中继"),
    ("this user has as many allocations as it may", "此用户的分配数已达上限"),
    (
        "raise the quota of a user (`turn.user_quota`), or find out who leaves allocations behind: each page that gathers candidates takes one for each URL and network interface",
        "提高每个用户的配额（`turn.user_quota`），或查明谁留下了分配：每个收集候选地址的页面，每个 URL 和网卡各占一个",
    ),
    ("the server has no relay port left, or is being stopped", "服务器没有空闲的中继端口，或正在停止"),
    (
        "widen the range of relay ports (`turn.relay_ports`), or look whether another process holds them",
        "扩大中继端口范围（`turn.relay_ports`），或检查是否有其他进程占用",
    ),
    ("the server takes the request for malformed", "服务器认为请求格式不正确"),
    (
        "look in the server's log; something in between may have changed the request",
        "查看服务器的日志；中间设备可能修改了请求",
    ),
    ("the server gives the reason `{}`", "服务器给出的原因是 `{}`"),
    ("look in the server's log", "查看服务器的日志"),
    ("the time in the user name is past", "用户名中的时间已过"),
    (
        "get fresh credentials, as by `rtcctl turn credentials`; if they are fresh, set the clocks right",
        "获取新的凭据，例如用 `rtcctl turn credentials`；如果凭据是新的，请校准时钟",
    ),
    ("the user name looks like `user:expiry`", "用户名像是 `user:expiry`"),
    ("time-limited names are `expiry:user`, the number first", "限时用户名是 `expiry:user`，数字在前"),
    ("the server does not compute the same password from this user name", "服务器由此用户名算出的密码不同"),
    (
        "the shared secret of who issues and of the server must be the same, to the last character; a server that has both a secret and fixed users may use only one of them",
        "签发方和服务器的共享密钥必须完全一致；同时设有密钥和固定用户的服务器可能只使用其中之一",
    ),
    ("the server does not know this user, or has another password for it", "服务器不认识此用户，或其密码不同"),
    (
        "check name and password; a server that works with a shared secret takes only names like `1700000000:alice`",
        "检查用户名和密码；使用共享密钥的服务器只接受 `1700000000:alice` 这样的用户名",
    ),
    ("the server hands out no address but a placeholder", "服务器给出的不是地址，而是占位符"),
    ("set the relay's address in the server's configuration", "在服务器配置中设置中继的地址"),
    (
        "{} is public and {} is not: nobody outside the server's own network reaches it",
        "{} 是公网地址，而 {} 不是：服务器所在网络之外的人无法到达",
    ),
    (
        "the host is behind 1:1 NAT, as on most clouds: tell the server its public address (`turn.public_ips: [{}]`, in coturn `external-ip`), separately for each address family",
        "主机在 1:1 NAT 之后，多数云都是这样：告诉服务器它的公网地址（`turn.public_ips: [{}]`，coturn 中为 `external-ip`），每个协议族分别设置",
    ),
    ("no packet got from one relay to the other", "没有数据包从一个中继到达另一个"),
    ("packets get from the first relay to the second but not back", "数据包能从第一个中继到第二个，但回不来"),
    ("packets get lost on the way", "数据包在途中丢失"),
    (
        "the relay ports are closed, or the host cannot reach its own public address: open the whole range of relay ports (`turn.relay_ports`, UDP) in the host's firewall and in the cloud's security group; behind NAT the server has to relay between its own allocations by itself",
        "中继端口没有放行，或主机无法访问自己的公网地址：在主机的防火墙和云的安全组中放行整个中继端口范围（`turn.relay_ports`，UDP）；在 NAT 之后，服务器必须自行在自己的分配之间中继",
    ),
    (
        "look at the load of the server's host and at the drops it counts (`rtcctl status`); a bandwidth limit drops, too",
        "检查服务器主机的负载和它统计的丢包（`rtcctl status`）；带宽限制也会丢包",
    ),
    // probe/turn
    ("not reached", "没有进行到这一步"),
    ("{} by {}, port {}", "{}，{}，端口 {}"),
    ("an address needs none", "IP 地址不需要解析"),
    (
        "check the name's A and AAAA records, and that no blank was pasted into the URL; browsers report such a server by error 701",
        "检查该名称的 A 和 AAAA 记录，以及 URL 中是否粘贴了空格；浏览器对这样的服务器报告错误 701",
    ),
    // probe/turn/speed
    ("no thread to listen: {}", "没有可监听的线程：{}"),
    // probe/turn/trust
    ("this host trusts no authority at all: it has no bundle of certificates", "本机不信任任何证书机构：没有证书包"),
    ("no authority that this host trusts has issued it", "签发它的不是本机信任的证书机构"),
    ("it is expired, or not valid yet", "它已过期，或尚未生效"),
    ("the host of the URL is not among its names", "证书中没有 URL 的主机名"),
    // probe/turn/walk
    ("seen as {}", "看到的地址是 {}"),
    ("realm `{}`", "realm 为 `{}`"),
    ("no credentials were given", "没有给出凭据"),
    ("relayed address {}", "中继地址 {}"),
    ("both allocations ended", "两个分配都已结束"),
    ("connected", "已连接"),
    ("each relay lets the other in", "两个中继互相放行"),
    ("channel {} on both sides", "双方使用信道 {}"),
    ("this host has no route to it", "本机没有到它的路由"),
    ("{}; it is for {}, {}", "{}；它用于 {}，{}"),
    ("{}, certificate for {}, {}", "{}，证书用于 {}，{}"),
    ("the certificate ends soon", "证书即将到期"),
    (
        "renew it, and have the server load the new one: some read it at their start only",
        "更新证书，并让服务器加载新证书：有些服务器只在启动时读取",
    ),
    ("no name", "没有名称"),
    ("{} and {} more", "{} 以及另外 {} 个"),
    ("valid for {} days", "有效期还有 {} 天"),
    ("expired {} days ago", "{} 天前已过期"),
    (
        "{} packets each way without loss, round trip {} ms, 90 % within {} ms",
        "每个方向 {} 个数据包，无丢包，往返 {} 毫秒，90% 在 {} 毫秒以内",
    ),
    ("of {} packets {} arrived and {} came back", "{} 个数据包中到达 {} 个，返回 {} 个"),
    ("the relay lets its users send to {}", "中继允许用户发往 {}"),
    (
        "whoever has credentials reaches services that only this host or its network should reach",
        "持有凭据的人可以访问只有本机或其网络才能访问的服务",
    ),
    (
        "deny loopback, link-local, private and metadata addresses as peers",
        "禁止以回环、链路本地、内网和元数据地址为对端",
    ),
    ("refused, as it must be: {}", "按要求被拒绝：{}"),
    ("the code is to be 403", "错误码应为 403"),
    ("nothing needs to be done; clients may be puzzled", "无需处理；客户端可能会困惑"),
    ("the allocation is gone", "分配已不存在"),
    ("the server closed the connection", "服务器关闭了连接"),
    ("a Refresh after the end is granted", "结束之后的 Refresh 仍被允许"),
    (
        "RFC 8656, section 5, wants 437; what was ended may still count against the user's quota",
        "按 RFC 8656 第 5 节应为 437；已结束的分配可能仍计入用户的配额",
    ),
    ("nothing breaks by it; raise the quota if callers run into it", "不会造成故障；如果呼叫者遇到限制，请提高配额"),
    // probe/websocket
    ("`{}/tcp` does not switch to WebSocket", "`{}/tcp` 没有切换到 WebSocket"),
    ("`{}/tcp` sends what is no frame of ours", "`{}/tcp` 发来的不是约定的帧"),
    ("`{}/tcp` closed the connection", "`{}/tcp` 关闭了连接"),
];
