//! The Chinese for certificates and authorities.

/// By the English text.
pub(super) const TABLE: &[(&str, &str)] = &[
    // certs/acme/account
    ("the account was refused with its binding: {}", "账户及其绑定被拒绝：{}"),
    ("the key in `acme_eab` of secrets.yaml is not Base64", "secrets.yaml 的 `acme_eab` 中的密钥不是 Base64"),
    ("cannot read `{}`: {}", "无法读取 `{}`：{}"),
    ("cannot rename `{}`: {}", "无法重命名 `{}`：{}"),
    // certs/acme/failure
    ("the authority did not come to a decision in time", "证书机构没有及时作出决定"),
    ("the account's key: {}", "账户密钥：{}"),
    ("the authority does not support {}", "证书机构不支持 {}"),
    ("the authority answered with status {}", "证书机构的应答状态是 {}"),
    ("the authority's certificate does not fit this host's clock: {}", "证书机构的证书与本机时钟不符：{}"),
    ("the authority's certificate is not trusted: {}", "不信任证书机构的证书：{}"),
    // certs/acme/http
    ("cannot use `{}`: {}", "无法使用 `{}`：{}"),
    ("this system has no list of trusted authorities", "本系统没有受信任的证书机构列表"),
    ("the authority did not answer in time", "证书机构没有及时应答"),
    ("the authority's address has no host", "证书机构的地址中没有主机"),
    ("the authority's address does not begin with https://", "证书机构的地址不以 https:// 开头"),
    ("cannot resolve `{}`: {}", "无法解析 `{}`：{}"),
    ("`{}` has no address", "`{}` 没有地址"),
    ("cannot connect to {}: {}", "无法连接 {}：{}"),
    ("{} does not answer", "{} 没有应答"),
    ("it holds no certificate of an authority", "其中没有证书机构的证书"),
    // certs/acme/look
    ("`{}` {}", "`{}` {}"),
    // certs/acme
    ("no kind of challenge can be answered here", "本机无法应答任何一种验证"),
    (
        "HTTP-01 cannot be answered: another process has the port of HTTP",
        "无法应答 HTTP-01：另一个进程占用了 HTTP 端口",
    ),
    ("this host's clock is {} days ahead of the authority's", "本机时钟比证书机构快 {} 天"),
    // certs/acme/order
    ("no command adds records to the DNS", "没有向 DNS 添加记录的命令"),
    ("the key of an order that is signed is lost", "已签发订单的私钥丢失"),
    ("an authorization of the order is over", "订单的一项授权已失效"),
    ("the authority asks for something that was not ordered", "证书机构要求的内容不在订单中"),
    ("the authority offers no {} for {}", "证书机构没有为 {1} 提供 {0}"),
    ("a digest has 32 bytes", "摘要应有 32 字节"),
    ("the order was refused", "订单被拒绝"),
    ("the authority refused the order and did not say why", "证书机构拒绝了订单，没有说明原因"),
    ("cannot make a signing request: {}", "无法生成签名请求：{}"),
    // certs/challenge
    ("cannot make a certificate for a challenge", "无法生成用于验证的证书"),
    ("a key that was just made cannot be used", "刚生成的密钥无法使用"),
    // certs/dns01
    ("after {} s the TXT record of {} is not at {}", "{} 秒后，{} 的 TXT 记录仍未出现在 {}"),
    ("the command `{}` of `certificate.acme_dns_command`: {}", "`certificate.acme_dns_command` 的命令 `{}`：{}"),
    (
        "`{}` of `certificate.acme_dns_command` is no program that can be run",
        "`certificate.acme_dns_command` 的 `{}` 不是可执行的程序",
    ),
    ("`{}` asked to {} the TXT record of {}: {}", "`{0}` 对 {2} 的 TXT 记录执行 {1}：{3}"),
    ("it did not end within {} s, and was ended", "{} 秒内没有结束，已被终止"),
    ("{}, and it said nothing", "{}，没有任何输出"),
    ("{}, it said: …{}", "{}，输出：…{}"),
    ("{}, it said: {}", "{}，输出：{}"),
    // certs/files
    ("`{}` is larger than {} bytes; chains and keys are a few thousand", "`{}` 大于 {} 字节；证书链和私钥只有几千字节"),
    (
        "`certificate.source: files` without files passed the check of the configuration",
        "`certificate.source: files` 没有指定文件，却通过了配置检查",
    ),
    ("cannot serve the certificate `{}`", "无法使用证书 `{}`"),
    (
        "correct the file or `certificate.cert_file` and `certificate.key_file`; a pair that fits is taken by itself",
        "改正文件，或改正 `certificate.cert_file` 和 `certificate.key_file`；相符的证书和私钥会自动启用",
    ),
    // certs/handle
    ("the renewal has not come to an end yet", "续期尚未完成"),
    ("it goes on by itself; see `rtcctl status`", "它会自动继续；见 `rtcctl status`"),
    ("the renewal was interrupted", "续期被中断"),
    (
        "another was asked for, or the task `certs` was restarted; see `rtcctl status`",
        "提出了另一次请求，或任务 `certs` 已重启；见 `rtcctl status`",
    ),
    // certs/keeper
    ("the authority must not be asked yet", "现在还不能向证书机构申请"),
    (
        "its limit, or ours below it, allows the next order in {} minutes",
        "受证书机构的限额或我们更低的限额所限，{} 分钟后才能再次申请",
    ),
    ("wait; the renewal goes on by itself then", "请等待；届时续期会自动继续"),
    ("the certificate lacks names that were ordered", "证书缺少所申请的名称"),
    ("the new certificate is over already by this host's clock", "按本机时钟，新证书已经过期"),
    ("a record cannot be written", "有一条记录无法写入"),
    ("{}; {}", "{}；{}"),
    (
        "no authority has issued a certificate yet, so the local CA's is served: {}",
        "还没有证书机构签发证书，因此使用本地 CA 的证书：{}",
    ),
    ("the certificate cannot be renewed: {}", "证书无法续期：{}"),
    // certs/leaf
    ("there is none yet", "还没有"),
    ("the old one has expired", "旧的已过期"),
    ("two thirds of its life are over", "有效期已过三分之二"),
    ("the old one is not valid yet by this host's clock", "按本机时钟，旧的尚未生效"),
    ("the operator wants a new one", "操作者要求换新"),
    ("the old one lacks {}", "旧的缺少 {}"),
    // certs/local_ca
    ("`ca.pem` holds no certificate", "`ca.pem` 中没有证书"),
    ("`ca.pem` is damaged", "`ca.pem` 已损坏"),
    ("`ca.key` is damaged", "`ca.key` 已损坏"),
    ("`ca.key` is not the key of `ca.pem`", "`ca.key` 不是 `ca.pem` 的私钥"),
    ("`ca.pem` is not the certificate of an authority", "`ca.pem` 不是证书机构的证书"),
    ("the local CA's time is over", "本地 CA 已过期"),
    ("`ca.pem` cannot be used to sign", "`ca.pem` 不能用来签名"),
    ("cannot make a certificate", "无法生成证书"),
    // certs/pair
    (
        "is DER, not PEM; turn it into PEM by `openssl x509 -inform DER`, a key by `openssl pkey -inform DER`, a bundle of both (.pfx, .p12) by `openssl pkcs12 -nodes`",
        "是 DER，不是 PEM；证书用 `openssl x509 -inform DER`、私钥用 `openssl pkey -inform DER`、二者合一的文件（.pfx、.p12）用 `openssl pkcs12 -nodes` 转换成 PEM",
    ),
    ("is no text in UTF-8; save it as PEM", "不是 UTF-8 文本；请保存为 PEM"),
    (
        "the chain holds the server's certificate alone; devices that lack that of `{}` refuse it",
        "证书链中只有服务器证书；没有 `{}` 证书的设备会拒绝它",
    ),
    ("the certificate of `{}`, which vouches for it, has expired", "为它担保的 `{}` 证书已过期"),
    (
        "the certificate of `{}`, which vouches for it, is not valid yet by this host's clock",
        "按本机时钟，为它担保的 `{}` 证书尚未生效",
    ),
    ("{} is damaged", "{} 已损坏"),
    ("{} holds no certificate", "{} 中没有证书"),
    (
        "{} begins with the certificate of an authority; the server's own comes first",
        "{} 以证书机构的证书开头；服务器自己的证书应在最前",
    ),
    (
        "{} is out of order: certificate {} was issued by `{}`, but `{}` follows",
        "{} 的顺序不对：第 {} 个证书由 `{}` 签发，但后面是 `{}`",
    ),
    (
        "{} is encrypted, and nobody is there to type its passphrase; write it in the clear by `openssl pkey -in OLD -out NEW`, readable by this service alone",
        "{} 已加密，而无人输入口令；请用 `openssl pkey -in OLD -out NEW` 写成明文，只让本服务可读",
    ),
    ("{} holds no private key", "{} 中没有私钥"),
    ("{} is not the key of {}", "{} 不是 {} 的私钥"),
    ("it has expired", "它已过期"),
    ("it is not valid yet by this host's clock", "按本机时钟，它尚未生效"),
    ("it is not for {}", "它不包含 {}"),
    // certs/preflight/here
    ("this host's clock is {} minutes behind the authority's", "本机时钟比证书机构慢 {} 分钟"),
    ("this host's clock is {} minutes ahead of the authority's", "本机时钟比证书机构快 {} 分钟"),
    ("set this host's clock, best by NTP", "校准本机时钟，最好用 NTP"),
    ("the folder of certificates cannot be written: {}", "无法写入证书目录：{}"),
    ("see its owner and mode", "检查它的所有者和权限"),
    ("{} bytes are free on the disk of the certificates", "证书所在磁盘剩余 {} 字节"),
    ("free some space there", "在那里腾出空间"),
    (
        "an authority comes to TCP port {}, and the service has {} in its place",
        "证书机构访问 TCP 端口 {}，而服务使用的是 {}",
    ),
    (
        "have the router or the firewall lead the one to the other, or run the service on the usual port",
        "让路由器或防火墙把前者转发到后者，或让服务使用常用端口",
    ),
    ("{} refuses connections from here", "{} 拒绝来自这里的连接"),
    (
        "start the service, and let the router or the load balancer lead this port to it",
        "启动服务，并让路由器或负载均衡把此端口转发到它",
    ),
    // certs/preflight/judge
    ("the name `{}` is not in the DNS", "DNS 中没有名称 `{}`"),
    ("the name `{}` has neither an A nor an AAAA record", "名称 `{}` 既没有 A 记录，也没有 AAAA 记录"),
    (
        "add a record for {} where `{}` is administered, or correct `hosts`",
        "在管理 `{1}` 的地方为 {0} 添加记录，或改正 `hosts`",
    ),
    ("add a record where `{}` is administered, or correct `hosts`", "在管理 `{}` 的地方添加记录，或改正 `hosts`"),
    ("the {} records of `{}` cannot be resolved (SERVFAIL)", "无法解析 `{1}` 的 {0} 记录（SERVFAIL）"),
    ("check the name servers of `{}`, and its DNSSEC", "检查 `{}` 的域名服务器及其 DNSSEC"),
    ("has none of this family", "没有该协议族的地址"),
    ("has {}", "是 {}"),
    ("the {} record of `{}` leads to {}, and this host {}", "`{1}` 的 {0} 记录指向 {2}，而本机{3}"),
    (
        "correct or remove the {} record, or name the address in front of this host by `turn.public_ips`",
        "改正或删除 {} 记录，或用 `turn.public_ips` 指定本机前面的地址",
    ),
    ("this host takes `{}` for {}, the DNS for something else", "本机把 `{}` 解析为 {}，DNS 的解析则不同"),
    ("that is fine if /etc/hosts says so on purpose", "如果 /etc/hosts 有意这样写，则没有问题"),
    (
        "the CAA records of `{}` cannot be resolved (SERVFAIL), which keeps every authority away",
        "无法解析 `{}` 的 CAA 记录（SERVFAIL），这会阻止所有证书机构签发",
    ),
    ("nobody", "任何机构都不"),
    ("the CAA records of `{}` allow {} alone", "`{}` 的 CAA 记录只允许 {}"),
    ("add `{}. CAA 0 issue \"{}\"`, or remove the records", "添加 `{}. CAA 0 issue \"{}\"`，或删除这些记录"),
    // certs/renewal/record
    ("the service ended while the order was under way", "申请进行中服务结束了"),
    // certs/renewal/rehearse
    ("the authority does not answer", "证书机构没有应答"),
    ("too many certificates already issued", "已签发的证书过多"),
    ("port 80 does not answer", "端口 80 没有应答"),
    ("the new certificate is over already by this clock", "按此时钟，新证书已经过期"),
    // certs/request
    ("cannot make a signing request", "无法生成签名请求"),
    ("cannot use the key `{}`", "无法使用私钥 `{}`"),
    ("move it away, and a new one is made", "把它移走，会生成新的"),
    ("there is no request that this could be the answer to", "没有与此相应的证书请求"),
    ("make one by `rtcctl{} cert csr`", "用 `rtcctl{} cert csr` 生成一个"),
    ("cannot take the certificate {}", "无法接受证书 {}"),
    (
        "give the server's certificate and those that vouch for it, in this order, in one PEM file",
        "请在一个 PEM 文件中依次给出服务器证书和为它担保的证书",
    ),
    // certs/store
    ("`ca.pem` is missing", "缺少 `ca.pem`"),
    ("`ca.key` is missing", "缺少 `ca.key`"),
    ("`leaf.pem` is missing", "缺少 `leaf.pem`"),
    ("`leaf.key` is missing", "缺少 `leaf.key`"),
    ("a leaf that is kept can be served", "保留的证书应能使用"),
    ("cannot use the certificate in `{}`", "无法使用 `{}` 中的证书"),
    (
        "run `rtcctl{0} init` or `rtcctl{0} start`; either makes it anew",
        "运行 `rtcctl{0} init` 或 `rtcctl{0} start`；两者都会重新生成",
    ),
    ("`leaf.pem` holds no certificate", "`leaf.pem` 中没有证书"),
    ("its local CA is gone", "它的本地 CA 已不存在"),
    ("`leaf.pem` is damaged or not signed by the local CA", "`leaf.pem` 已损坏，或不是由本地 CA 签发"),
    // certs/task
    ("the certificate of the files that are served has expired", "正在使用的证书文件已过期"),
    ("the files cannot be served", "无法使用这些文件"),
    ("no certificate was issued", "没有签发证书"),
    ("cannot start a runtime for certs", "无法启动 certs 的运行时"),
    // certs/trouble
    ("{} ({})", "{}（{}）"),
    (
        "open TCP ports 80 and 443 towards this host, in the cloud's security group and the router, too",
        "向本机放行 TCP 端口 80 和 443，云的安全组和路由器也要放行",
    ),
    (
        "`rtcctl status` names who has the port; stop it, or allow TLS-ALPN-01 by `certificate.acme_challenge: auto`",
        "`rtcctl status` 显示端口被谁占用；停止它，或用 `certificate.acme_challenge: auto` 允许 TLS-ALPN-01",
    ),
    (
        "mend the command of `certificate.acme_dns_command`; `rtcctl cert preflight --try-hook` tries it without an authority",
        "修好 `certificate.acme_dns_command` 的命令；`rtcctl cert preflight --try-hook` 可在不联系证书机构的情况下测试",
    ),
    (
        "the authority did not find the record: look whether every name server of the zone has it, and whether the command leaves records that are there already",
        "证书机构没有找到该记录：检查该区域的每个域名服务器是否都有它，以及命令是否保留了原有的记录",
    ),
    (
        "look at the zone: the command has ended well, and its record is not there, or in another zone",
        "检查该区域：命令正常结束，但记录不存在，或在另一个区域",
    ),
    (
        "something else answers on this name: check that it leads to this host, and only to it",
        "该名称上应答的是其他服务：检查它是否指向本机，而且只指向本机",
    ),
    (
        "make the name lead to this host in the DNS (A and AAAA records), or correct `hosts`",
        "在 DNS 中把该名称指向本机（A 和 AAAA 记录），或改正 `hosts`",
    ),
    (
        "add this authority to the name's CAA records in the DNS, or remove them",
        "在 DNS 中把该证书机构加入该名称的 CAA 记录，或删除 CAA 记录",
    ),
    (
        "this authority does not certify such a name or address; change `hosts`, or use `certificate.source: self-signed`",
        "该证书机构不为这样的名称或地址签发证书；修改 `hosts`，或使用 `certificate.source: self-signed`",
    ),
    (
        "write the authority's key id and key into `acme_eab` of secrets.yaml",
        "把证书机构给的密钥 ID 和密钥写入 secrets.yaml 的 `acme_eab`",
    ),
    (
        "correct the authority's key id and key in `acme_eab` of secrets.yaml",
        "改正 secrets.yaml 的 `acme_eab` 中证书机构的密钥 ID 和密钥",
    ),
    ("correct `certificate.acme_contact`, or leave it out", "改正或去掉 `certificate.acme_contact`"),
    ("free some space on the disk that holds the home", "在 home 所在的磁盘上腾出空间"),
    (
        "let this host reach the authority: check its DNS, its route and outgoing TCP port 443",
        "让本机能访问证书机构：检查 DNS、路由和出方向的 TCP 端口 443",
    ),
    (
        "install the package ca-certificates, or name the root by `certificate.acme_ca_root`",
        "安装 ca-certificates 软件包，或用 `certificate.acme_ca_root` 指定根证书",
    ),
    (
        "correct `certificate.acme_directory`: the address of the authority's directory",
        "改正 `certificate.acme_directory`：证书机构的目录地址",
    ),
    ("read what the authority says, and agree to it there", "阅读证书机构的说明，并在那里表示同意"),
    // certs/trust
    ("this host has no store of trusted authorities that is known", "本机没有已知的受信任证书库"),
    ("let each program trust `{}` by itself", "让每个程序自行信任 `{}`"),
    ("there is no local CA to be trusted", "没有可信任的本地 CA"),
    ("`rtcctl{} init` makes one; a start of the service does so, too", "`rtcctl{} init` 会生成；启动服务也会生成"),
    ("`{}` holds no certificate", "`{}` 中没有证书"),
    ("cannot remove `{}`: {}", "无法删除 `{}`：{}"),
    ("`{}`: {}", "`{}`：{}"),
    ("`{}` failed: {}", "`{}` 失败：{}"),
];
