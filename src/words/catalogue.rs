//! The Chinese for every text that the wizard, the plan, objections and `undo` say.

use super::Lang;

/// A text with values in it, in whatever language it is said in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    english: &'static str,
    values: Vec<String>,
}

impl Text {
    /// Use [`crate::text!`], which the test of the catalogue finds.
    #[must_use]
    pub fn new(english: &'static str, values: Vec<String>) -> Self {
        Self { english, values }
    }

    #[must_use]
    pub fn say(&self, lang: Lang) -> String {
        fill(lang.say(self.english), &self.values)
    }
}

/// As [`std::fmt::Display`]: documents are in English.
impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In English, for logs and documents that scripts read.
impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&fill(self.english, &self.values))
    }
}

impl Lang {
    /// A text without values, as [`crate::word!`] marks them. What the catalogue does not have stays English.
    #[must_use]
    pub fn say(self, english: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => chinese(english).unwrap_or(english),
        }
    }
}

impl Lang {
    /// As [`Self::say`], for a text that came by another way; what the catalogue does not have stays as it is.
    #[must_use]
    pub fn translate(self, text: &str) -> &str {
        match self {
            Self::En => text,
            Self::Zh => chinese(text).unwrap_or(text),
        }
    }
}

/// The Chinese for an English text.
#[must_use]
pub fn chinese(english: &str) -> Option<&'static str> {
    CHINESE.iter().find(|(key, _)| *key == english).map(|(_, text)| *text)
}

/// Puts the values where `{}` or `{0}` stands.
fn fill(text: &str, values: &[String]) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut next = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((index, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        let at = if index.is_empty() { next } else { index.parse().unwrap_or(usize::MAX) };
        next += 1;
        filled.push_str(values.get(at).map_or("", String::as_str));
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

/// By the English text.
const CHINESE: &[(&str, &str)] = &[
    // The wizard.
    (
        "Setting rtcctl up in `{}`. Ctrl-C leaves everything as it is.",
        "将在 `{}` 中安装 rtcctl。按 Ctrl-C 退出，不做任何改动。",
    ),
    ("Where do callers come from?", "呼叫者从哪里来？"),
    ("decides which address is suggested and which peers the relay allows", "决定建议使用的地址，以及中继允许的对端"),
    ("lan     from this network only", "lan     只来自本局域网"),
    ("ip      from the internet, by a public address", "ip      来自互联网，使用公网地址"),
    ("domain  from the internet, by a domain name", "domain  来自互联网，使用域名"),
    ("Address or name", "地址或名称"),
    ("Public address", "公网地址"),
    ("Domain name", "域名"),
    (
        "callers open https:// with it, and the certificate is made for it",
        "呼叫者用它打开 https:// 网址，证书也为它签发",
    ),
    (
        "callers open https:// with it; it must lead to this host in the DNS",
        "呼叫者用它打开 https:// 网址；DNS 必须指向本机",
    ),
    ("Web port", "网页端口"),
    ("the HTTPS page; 443 needs no number in the URL", "HTTPS 网页；443 端口在网址中不用写"),
    ("the HTTPS page; ports below 1024 need root", "HTTPS 网页；1024 以下的端口需要 root"),
    ("Public address of the relay, empty for none", "中继的公网地址，没有则留空"),
    (
        "no interface here has a public address: callers must be told the one in front of this host",
        "本机网卡没有公网地址：需要告诉呼叫者本机前面的那个地址",
    ),
    ("Carry this plan out?", "执行这个计划吗？"),
    // The plan.
    ("Settings", "设置"),
    ("Files", "文件"),
    ("create", "新建"),
    ("change", "修改"),
    ("keep", "保留"),
    ("Changes in config.yaml", "config.yaml 的改动"),
    ("Ports that callers must reach", "呼叫者必须能访问的端口"),
    (
        "Firewall: nothing is changed; where one is active, run as root",
        "防火墙：不做改动；如果正在使用防火墙，请以 root 运行",
    ),
    ("with {}:", "使用 {}："),
    ("no firewall tool was found on this host", "本机没有找到防火墙工具"),
    (
        "and open the same ports in the provider's security group, if there is one",
        "如果云厂商有安全组，也要放行同样的端口",
    ),
    ("flag", "参数"),
    ("environment", "环境变量"),
    ("answers file", "应答文件"),
    ("your answer", "您的回答"),
    ("config.yaml", "config.yaml"),
    ("detected", "自动检测"),
    ("default", "默认值"),
    ("every key documented", "每个键都有说明"),
    ("TURN secret, 256 random bits, and the key of invite links", "TURN 密钥（256 位随机数）和邀请链接的钥匙"),
    ("the key of invite links is added", "加入邀请链接的钥匙"),
    ("the local CA, to be trusted by devices", "本地 CA，供设备信任"),
    ("its key", "它的私钥"),
    ("what the page is served with", "网页使用的证书"),
    ("what was there before, for `rtcctl undo`", "改动之前的内容，供 `rtcctl undo` 使用"),
    ("these answers, for `--answers`", "这些回答，供 `--answers` 使用"),
    ("the HTTPS page, signaling, and TURN over TLS", "HTTPS 网页、信令，以及 TLS 上的 TURN"),
    ("the HTTPS page and signaling", "HTTPS 网页和信令"),
    ("redirects plain HTTP to HTTPS", "把 HTTP 重定向到 HTTPS"),
    ("redirects plain HTTP to HTTPS, and answers the certificate authority", "把 HTTP 重定向到 HTTPS，并应答证书机构"),
    ("STUN and TURN", "STUN 和 TURN"),
    ("TURN where UDP is blocked", "UDP 被封锁时的 TURN"),
    ("relayed media, one port for each relayed caller", "中继的媒体，每个中继的呼叫者一个端口"),
    // Why a setting is as it is.
    ("this host has private addresses only", "本机只有内网地址"),
    ("this host has a public address", "本机有公网地址"),
    ("what this host calls itself", "本机的主机名"),
    ("no network was found", "没有找到网络"),
    ("this host's address", "本机的地址"),
    ("no interface has it, so it is translated (1:1 NAT)", "没有网卡使用它，因此是地址转换（1:1 NAT）"),
    ("the default route's, looked up at each start", "默认路由的地址，每次启动时查询"),
    ("by a local authority; a device may trust it once", "由本地 CA 签发；设备信任一次即可"),
    (
        "every device trusts it; the authority's terms of service are accepted by this",
        "所有设备都信任；这表示接受证书机构的服务条款",
    ),
    ("your own, taken again whenever they change", "您自己的证书，改变后自动重新读取"),
    ("adds records to the DNS and removes them", "在 DNS 中添加和删除记录"),
    ("how the authority is shown that the names are ours", "如何向证书机构证明域名归属"),
    ("the roots that this system trusts", "本系统信任的根证书"),
    ("whoever reaches the page may call", "能打开网页的人都可以通话"),
    ("who has an invite link may call", "有邀请链接的人可以通话"),
    ("ports below 1024 need root", "1024 以下的端口需要 root"),
    ("redirects to HTTPS", "重定向到 HTTPS"),
    (
        "callers on a LAN have private addresses, the relay must reach them",
        "局域网的呼叫者使用内网地址，中继必须能到达",
    ),
    ("the relay reaches private networks, too", "中继也能到达内网"),
    ("the relay must not be a way into private networks", "不能让中继成为进入内网的通道"),
    ("the relay joins its own clients only", "中继只连接它自己的客户端"),
    ("the allowed networks and nothing else", "只有允许的网段"),
    ("the host's firewall is not changed", "不改动本机防火墙"),
    ("start it by `rtcctl start`", "用 `rtcctl start` 启动"),
    ("starts with the machine, and as a user without privileges", "随机器启动，以没有特权的用户运行"),
    ("the unit that systemd starts", "由 systemd 启动的单元"),
    ("the script that OpenRC starts", "由 OpenRC 启动的脚本"),
    ("what cron starts with the machine", "由 cron 随机器启动"),
    ("Starts with the machine", "随机器启动"),
    ("by {}, from `{}`", "由 {} 启动，程序为 `{}`"),
    ("as the user {}, to whom what the service writes belongs", "以用户 {} 运行，服务写入的文件归其所有"),
    (
        "as the user {}, who is made for it and to whom what the service writes belongs",
        "以用户 {} 运行（为此新建），服务写入的文件归其所有",
    ),
    ("the service starts with this machine, by an earlier `init`", "之前的 `init` 已让服务随机器启动"),
    ("take that back by `rtcctl undo`, or pass `--boot service`", "用 `rtcctl undo` 撤销，或使用 `--boot service`"),
    ("only root can have a service start with the machine", "只有 root 能让服务随机器启动"),
    ("run it by `sudo`", "用 `sudo` 运行"),
    (
        "a service that starts with the machine has the system's home, not one of its own",
        "随机器启动的服务使用系统目录，不能使用单独的目录",
    ),
    ("leave out `--home`, or pass `--boot none`", "去掉 `--home`，或使用 `--boot none`"),
    ("no service can be started from `{}`: {}", "无法从 `{}` 启动服务：{}"),
    (
        "put the program into /usr/local/bin, as `scripts/install` does",
        "把程序放到 /usr/local/bin，`scripts/install` 会这样做",
    ),
    ("the user {} of the service cannot read `{}`: {}", "服务的用户 {} 无法读取 `{}`：{}"),
    (
        "let it, by `chgrp {}` and `chmod g+r` of the file and its folders, or pass `--boot none`",
        "对该文件及其目录执行 `chgrp {}` 和 `chmod g+r`，或使用 `--boot none`",
    ),
    (
        "nothing starts services on this host: neither systemd, OpenRC nor cron is there",
        "本机没有启动服务的程序：没有 systemd、OpenRC，也没有 cron",
    ),
    (
        "pass `--boot none`, and have whatever starts this host run `rtcctl start`",
        "使用 `--boot none`，并让启动本机的程序运行 `rtcctl start`",
    ),
    // Objections.
    ("cannot write to the folder `{}`: {}", "无法写入目录 `{}`：{}"),
    (
        "choose another home by `--home DIR`, or run as the user it belongs to",
        "用 `--home DIR` 换一个目录，或以其所属用户运行",
    ),
    ("cannot use port {}/{}: `{} (pid {})` listens there", "不能使用端口 {}/{}：`{}`（进程号 {}）正在监听"),
    (
        "cannot use port {}/{}: another process, hidden from this user, listens there",
        "不能使用端口 {}/{}：另一个进程正在监听，当前用户看不到它",
    ),
    ("cannot use port {}/{}: ports below 1024 need root", "不能使用端口 {}/{}：1024 以下的端口需要 root"),
    ("choose another port by `{} N`, or stop what holds it", "用 `{} N` 选择其他端口，或停掉占用它的程序"),
    (
        "choose another port by `--http-port N` or `--http-port off`, or stop what holds it",
        "用 `--http-port N` 选择其他端口或 `--http-port off` 关闭，或停掉占用它的程序",
    ),
    ("`{}` ({}); or choose another port by `{} N`", "`{}`（{}）；或用 `{} N` 选择其他端口"),
    ("the web server", "Web 服务器"),
    ("the load balancer", "负载均衡"),
    ("the proxy", "代理"),
    ("coturn, which rtcctl's own relay stands in for", "coturn，rtcctl 自带的中继可以代替它"),
    (
        "the resolver; without it `/etc/resolv.conf` needs another name server",
        "域名解析服务；停掉后 `/etc/resolv.conf` 需要另一个 DNS 服务器",
    ),
    (
        "a container publishes it; this names it, `docker stop NAME` ends it",
        "由容器发布；此命令显示其名称，`docker stop NAME` 停止它",
    ),
    ("perhaps the tutorial's server, if `forever` runs it", "如果由 `forever` 运行，可能是教程里的服务器"),
    (
        "it is a service of another home, or of an earlier set-up: stop it by `rtcctl --home DIR stop`, or choose another port by `{} N`",
        "这是另一个 home 或以前安装的服务：用 `rtcctl --home DIR stop` 停止，或用 `{} N` 选择其他端口",
    ),
    ("no interface of this host has the relay address {}", "本机没有网卡使用中继地址 {}"),
    (
        "give a local address by `--relay-ip`, and the one in front of this host by `--public-ip`",
        "用 `--relay-ip` 指定本机地址，用 `--public-ip` 指定本机前面的地址",
    ),
    (
        "give other files by `--cert-file` and `--key-file`, or `--acme-ca-root` and `--acme-dns-command` for an authority",
        "用 `--cert-file` 和 `--key-file` 指定其他文件，证书机构则用 `--acme-ca-root` 和 `--acme-dns-command`",
    ),
    ("`{}` is not a folder this user can see", "`{}` 不是当前用户能读取的目录"),
    ("give a folder with an index.html by `--web-root`", "用 `--web-root` 指定含有 index.html 的目录"),
    ("the existing config.yaml cannot be changed a value at a time", "现有的 config.yaml 不能逐个修改值"),
    ("edit `{}` by hand", "请手工编辑 `{}`"),
    ("`{}` cannot be changed in config.yaml as it is written", "config.yaml 的写法使 `{}` 不能自动修改"),
    ("set `{}` to {} in `{}` by hand", "请在 `{2}` 中手工把 `{0}` 设为 {1}"),
    ("give another value by `{}`", "用 `{}` 指定其他值"),
    ("{} things are in the way", "有 {} 个问题需要先解决"),
    ("`rtcctl explain {}` says more", "`rtcctl explain {}` 有详细说明"),
    ("{}: {}", "{}：{}"),
    ("{}", "{}"),
    ("the folder of the answers file is not there, or cannot be written", "应答文件所在的目录不存在，或无法写入"),
    ("give another file by `--save-answers`", "用 `--save-answers` 指定其他文件"),
    // Outside this host.
    ("the DNS must lead {} to this host", "DNS 必须把 {} 指向本机"),
    (
        "add an A record (and AAAA, if callers have IPv6) where the domain is administered",
        "在管理域名的地方添加 A 记录（呼叫者有 IPv6 时再加 AAAA 记录）",
    ),
    (
        "this host has private addresses only: what is in front of it must pass the ports above on",
        "本机只有内网地址：前面的设备必须转发以上端口",
    ),
    (
        "on a cloud that is its 1:1 NAT, which passes everything; on a router it is port forwarding",
        "在云上是 1:1 NAT，会转发一切；在路由器上是端口转发",
    ),
    (
        "the provider's security group, if there is one, must let the ports above in",
        "如果云厂商有安全组，必须放行以上端口",
    ),
    (
        "it cannot be seen from here; open each of them for 0.0.0.0/0 and ::/0, UDP as well as TCP",
        "在本机看不到安全组；请对 0.0.0.0/0 和 ::/0 逐个放行，UDP 和 TCP 都要",
    ),
    ("must", "必须"),
    ("check", "检查"),
    // The end of `init`.
    ("1 change", "1 项改动"),
    ("{} changes", "{} 项改动"),
    ("{}, none made: this was a dry run", "{}，都没有执行：这是预演"),
    ("0 changes: everything is as wanted already", "0 项改动：一切已符合要求（0 changes）"),
    ("{} made", "已完成{}"),
    ("The same without questions:", "不提问的等效命令："),
    (
        "The same as an answers file (`--save-answers FILE` keeps it):",
        "等效的应答文件（`--save-answers FILE` 可保存）：",
    ),
    ("Outside this host:", "本机之外："),
    ("Once it is started, callers open:", "启动后，呼叫者打开："),
    ("Next:", "下一步："),
    ("Then see whether a phone can call:", "然后看看手机能否通话："),
    (
        "An earlier `init` was cut off; what it had changed has been taken back.",
        "之前的 `init` 被中断；它的改动已撤销。",
    ),
    (
        "note: an earlier `init` was cut off; without --dry-run, what it has changed is taken back first",
        "注意：之前的 `init` 被中断；不带 --dry-run 运行时，会先撤销它的改动",
    ),
    ("nothing was changed: the plan was declined", "没有改动：计划被拒绝"),
    // The firewall.
    ("callers are let in, by the commands below", "用下面的命令放行呼叫者"),
    ("Firewall: nothing filters on this host", "防火墙：本机没有过滤"),
    ("Firewall: it lets callers in already", "防火墙：已经放行呼叫者"),
    ("Firewall: callers are let in by these commands", "防火墙：用这些命令放行呼叫者"),
    ("Firewall: it drops callers; these commands would let them in", "防火墙：会丢弃呼叫者的数据包；这些命令可以放行"),
    (
        "a restart of this machine loses it, unless you put it into what is loaded at boot: {}",
        "重启本机后会丢失，除非写入开机加载的规则：{}",
    ),
    ("yes, and let callers in through the firewall", "是，并在防火墙中放行呼叫者"),
    ("yes, but leave the firewall as it is", "是，但不改动防火墙"),
    ("leave the firewall as it is", "不改动防火墙"),
    ("no, change nothing", "否，什么都不改"),
    (
        "the firewall drops callers now; `rtcctl undo` takes its rules back, too",
        "防火墙现在会丢弃呼叫者的数据包；`rtcctl undo` 也会撤销这些规则",
    ),
    ("the firewall can be opened by root only", "只有 root 能放行防火墙"),
    (
        "run it by `sudo`, or leave the firewall as it is by `--firewall show`",
        "用 `sudo` 运行，或用 `--firewall show` 不改动防火墙",
    ),
    ("it cannot be seen what filters on this host: {}", "看不到本机的过滤规则：{}"),
    (
        "leave it as it is by `--firewall show`, and open the ports by hand",
        "用 `--firewall show` 不改动防火墙，并手工放行端口",
    ),
    (
        "an earlier change of the firewall waits to be confirmed, for {} s more",
        "之前的防火墙改动正在等待确认，还剩 {} 秒",
    ),
    (
        "run `rtcctl firewall confirm`, or take it back by `rtcctl firewall close`",
        "运行 `rtcctl firewall confirm`，或用 `rtcctl firewall close` 撤销",
    ),
    ("the firewall is not touched: {}", "不会改动防火墙：{}"),
    (
        "rules of both iptables-nft and iptables-legacy filter on this host",
        "本机同时有 iptables-nft 和 iptables-legacy 的规则在过滤",
    ),
    (
        "no file with its rules is loaded at boot: neither iptables-persistent's nor iptables-services'",
        "开机时没有加载它的规则文件：既没有 iptables-persistent 的，也没有 iptables-services 的",
    ),
    ("zone {} may drop some callers: {}", "区域 {} 可能丢弃部分呼叫者：{}"),
    ("may drop some callers: {}", "可能丢弃部分呼叫者：{}"),
    (
        "ufw leaves IPv6 alone on this host: `IPV6=no` in /etc/default/ufw",
        "本机的 ufw 不管理 IPv6：/etc/default/ufw 中有 `IPV6=no`",
    ),
    ("{} drops {} besides", "{} 另外会丢弃 {}"),
    (
        "`nft` is not installed: rules of nftables, if there are any, cannot be seen",
        "没有安装 `nft`：如果有 nftables 规则，无法看到",
    ),
    ("there is no `{}`", "没有 `{}`"),
    ("`{}` does not end by loading a folder of files", "`{}` 的末尾没有加载一个规则目录"),
    ("`{}`, which `{}` loads, is no folder", "`{1}` 加载的 `{0}` 不是目录"),
    ("nftables.service does not start with this machine", "nftables.service 没有随本机启动"),
    ("`{}` cannot be tried: {}", "`{}` 无法试加载：{}"),
    ("the firewall", "防火墙"),
    ("close", "关闭"),
    // What `doctor` looks at.
    ("config.yaml is there and means something", "config.yaml 存在且内容有效"),
    ("secrets.yaml is there, whole and private", "secrets.yaml 存在、完整且只有所有者可读"),
    ("secrets and keys are readable by their owner alone", "密钥和私钥只有所有者可读"),
    ("state and logs can be written", "可以写入状态和日志"),
    ("the disks of state and logs have room", "状态和日志所在的磁盘有空间"),
    ("no socket is left behind by a daemon that is gone", "没有已退出的守护进程留下的套接字"),
    ("the clock is right, compared with time servers", "与时间服务器相比，时钟准确"),
    ("as many files may be open as the relay needs", "中继需要的文件数都可以打开"),
    ("sockets may have the buffers that the relay asks for", "套接字可以使用中继需要的缓冲区"),
    ("connection tracking has room for every relayed caller", "连接跟踪表容得下每个被中继的呼叫者"),
    ("some memory is left", "还有可用内存"),
    ("the service has the host's network", "服务直接使用本机的网络"),
    ("a way leads out of this host", "本机有出口路由"),
    ("the cloud's metadata service answers", "云的元数据服务有应答"),
    ("STUN servers and the cloud see the same public address", "STUN 服务器和云看到的公网地址一致"),
    ("the configured public address is the one that the internet sees", "配置的公网地址与互联网看到的一致"),
    ("callers are told a relay address that they can reach", "告诉呼叫者的中继地址可以到达"),
    ("the network interface is fast enough for relayed calls", "网卡速度足够中继通话"),
    ("this user may have the configured ports", "当前用户可以使用配置的端口"),
    ("nobody else has the configured ports", "配置的端口没有被其他程序占用"),
    ("the relay's ports are not in use by others", "中继的端口没有被其他程序占用"),
    ("the certificate and its key are there and belong together", "证书和私钥存在且相符"),
    ("the certificate is valid now and for a while", "证书现在有效，而且还有一段时间"),
    ("the certificate has every configured host", "证书包含全部已配置的名称和地址"),
    ("the service runs and answers commands", "服务正在运行并应答命令"),
    ("the service runs this version of the program", "服务运行的就是本程序的版本"),
    ("every task of the service is ready", "服务的每个任务都就绪"),
    ("the page answers on this host", "网页在本机有应答"),
    ("the port that redirects to HTTPS answers on this host", "重定向到 HTTPS 的端口在本机有应答"),
    ("signaling answers on this host", "信令在本机有应答"),
    ("STUN answers on this host", "STUN 在本机有应答"),
    ("TURN by TCP answers on this host", "TCP 上的 TURN 在本机有应答"),
    ("two clients talk through the relay, with candidates as a browser gathers them", "两个客户端可以通过中继通话"),
    ("the relay refuses loopback and cloud metadata", "中继拒绝回环地址和云的元数据服务"),
    ("every listener serves the certificate that is on disk", "每个监听端口使用的都是磁盘上的证书"),
    (
        "who knows this host's authorities trusts the certificate that is served",
        "信任本机所信机构的程序也信任正在使用的证书",
    ),
    ("the certificate is renewed in time", "证书能及时续期"),
    ("the running service has found nothing itself", "正在运行的服务没有发现问题"),
    ("the names of this host are in the DNS", "本机的名称都在 DNS 中"),
    ("the A records lead to this host", "A 记录指向本机"),
    ("the AAAA records lead to this host, and it has IPv6", "AAAA 记录指向本机，而且本机有 IPv6"),
    ("this host itself takes its names for the same addresses", "本机对自己名称的解析与 DNS 相同"),
    ("CAA records let the authority issue", "CAA 记录允许证书机构签发"),
    (
        "what rtcctl opened in this host's firewall is open still, and what is needed",
        "rtcctl 在防火墙中放行的端口仍然放行，并且正是需要的",
    ),
    ("this host's firewall lets in the whole relay range, port by port", "防火墙逐个端口放行了整个中继范围"),
    ("a packet to the HTTPS port passes this host's firewall", "到 HTTPS 端口的数据包能通过本机防火墙"),
    ("a packet to the HTTP port passes this host's firewall", "到 HTTP 端口的数据包能通过本机防火墙"),
    (
        "a packet to the UDP port of STUN and TURN passes this host's firewall",
        "到 STUN 和 TURN 的 UDP 端口的数据包能通过本机防火墙",
    ),
    ("a packet to the TCP ports of TURN passes this host's firewall", "到 TURN 的 TCP 端口的数据包能通过本机防火墙"),
    ("packets to the whole relay range pass this host's firewall", "到整个中继端口范围的数据包能通过本机防火墙"),
    ("this host reaches itself by its public address", "本机可以通过自己的公网地址访问自己"),
    (
        "another machine reached this one when it last tried (`rtcctl probe`)",
        "另一台机器上次检查时能访问本机（`rtcctl probe`）",
    ),
    // Findings, `doctor` and `firewall`.
    ("{}, since {}", "{}，开始于 {}"),
    ("{} wrong because of it: {}", "由此还有 {} 个问题：{}"),
    ("hint: {}", "提示：{}"),
    ("more: `rtcctl explain {}`", "说明：`rtcctl explain {}`"),
    ("info", "提示"),
    ("warning", "警告"),
    ("error", "错误"),
    ("critical", "严重"),
    ("note", "提示"),
    ("unknown", "未知"),
    ("ok", "正常"),
    ("nothing to do for", "无需检查"),
    ("because of it, or not to be told from it: {}", "由此引起，或无法与之区分：{}"),
    ("fix: {}", "处理：{}"),
    ("fixed: {}", "已处理：{}"),
    ("1 finding", "1 个问题"),
    ("{} findings", "{} 个问题"),
    ("{} ok", "{} 项正常"),
    (", {} of them for what was found", "（其中 {} 项是由于已发现的问题）"),
    ("{} unknown{}", "{} 项未知{}"),
    ("callers must reach {}", "呼叫者必须能访问 {}"),
    (
        "what filters here can be seen by root only: run this again as root to have the right commands",
        "过滤规则只有 root 能看到：请以 root 再运行一次，以得到正确的命令",
    ),
    ("if {} is what filters:", "如果使用 {} 过滤："),
    ("taken back in {} s, unless you run this from another connection:", "{} 秒后自动撤销，除非从另一个连接运行："),
    (
        "an earlier change of the firewall was not confirmed in time: it was taken back just now",
        "之前的防火墙改动没有及时确认：刚刚已撤销",
    ),
    ("confirmed: the change stays", "已确认：保留改动"),
    ("hint: run `rtcctl{} firewall open`", "提示：运行 `rtcctl{} firewall open`"),
    ("note: {}", "注意：{}"),
    ("note: a restart of this machine loses what {} lets in: {}", "注意：重启本机后会丢失 {} 放行的端口：{}"),
    ("note: a restart of this machine loses it: {}", "注意：重启本机后会丢失：{}"),
    ("`open` does nothing: {}", "`open` 什么都不做：{}"),
    ("nothing", "没有"),
    ("nothing to do", "无需改动"),
    ("filters", "过滤"),
    ("needed", "需要"),
    ("open", "已放行"),
    ("closed", "未放行"),
    ("dropped", "被丢弃"),
    ("leftover", "多余"),
    ("not kept", "不保留"),
    ("{} by {}", "{}，由 {}"),
    ("{} in {}: not needed any more", "{}，在 {} 中：已不再需要"),
    ("a restart of this machine loses it, in {}", "重启本机后会丢失，在 {} 中"),
    // `undo` and `uninstall`.
    ("Taking back what was done at {} by", "撤销 {} 的这次操作："),
    ("nothing to undo", "没有可撤销的内容（nothing to undo）"),
    (
        "nothing to undo: no `init` of this home is on record",
        "没有可撤销的内容（nothing to undo）：这个 home 没有 `init` 的记录",
    ),
    ("nothing to undo: another run was faster", "没有可撤销的内容（nothing to undo）：另一次运行已经完成"),
    ("nothing to uninstall", "没有可卸载的内容（nothing to uninstall）"),
    ("stopping the service first", "先停止服务"),
    ("nothing was changed: this was a dry run", "没有改动：这是预演"),
    ("kept: everything in `{}`", "已保留：`{}` 中的一切"),
    (
        "the service was stopped; `rtcctl{} start` starts it as it was before",
        "服务已停止；`rtcctl{} start` 按以前的配置启动",
    ),
    (
        "`rtcctl{} uninstall` also removes what the service wrote, `--purge` also what was changed since",
        "`rtcctl{} uninstall` 还会删除服务写的内容，`--purge` 还会删除之后被修改的内容",
    ),
    ("remove", "删除"),
    ("restore", "恢复"),
    ("leave", "保留"),
    ("FAILED", "失败"),
    ("it is not empty", "目录不为空"),
    ("it was changed since", "之后被修改过"),
    ("it is no plain file any more", "它已不是普通文件"),
    ("the service wrote it", "服务写的"),
    ("it was there, or was made, without `init`", "不是 `init` 创建的"),
    ("it is not of rtcctl", "不属于 rtcctl"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every text that is marked in the source.
    fn marked() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    // The macros themselves are there.
                    if !path.ends_with("src/words") {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for mark in ["text!(", "word!("] {
                        found.extend(text.split(mark).skip(1).filter_map(literal));
                    }
                }
            }
        }
        found
    }

    /// The string that an argument list begins with, as the compiler reads it.
    fn literal(arguments: &str) -> Option<String> {
        let body = arguments.trim_start().strip_prefix('"')?;
        let mut text = String::new();
        let mut symbols = body.chars();
        while let Some(symbol) = symbols.next() {
            match symbol {
                '"' => return Some(text),
                '\\' => match symbols.next()? {
                    '\n' => {
                        let rest = symbols.as_str().trim_start();
                        symbols = rest.chars();
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        None
    }

    fn places(text: &str) -> usize {
        text.matches('{').count()
    }

    #[test]
    fn the_catalogue_has_every_text_and_no_other() {
        let marked = marked();
        assert!(marked.len() > 80, "{}", marked.len());
        let known: BTreeSet<String> = CHINESE.iter().map(|(english, _)| (*english).to_owned()).collect();
        assert_eq!(known.len(), CHINESE.len(), "a text stands there twice");
        let lacking: Vec<&String> = marked.difference(&known).collect();
        assert!(lacking.is_empty(), "without Chinese: {lacking:#?}");
        let unused: Vec<&String> = known.difference(&marked).collect();
        assert!(unused.is_empty(), "said nowhere: {unused:#?}");
    }

    #[test]
    fn both_languages_have_the_same_places_for_values() {
        for (english, chinese) in CHINESE {
            assert_eq!(places(english), places(chinese), "{english}");
            let values: Vec<String> = (0..places(english)).map(|index| format!("<{index}>")).collect();
            let filled = fill(chinese, &values);
            assert!(values.iter().all(|value| filled.contains(value)), "{filled}");
            assert!(!chinese.is_empty());
            // What is typed is the same.
            let typed = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
            let (english_typed, chinese_typed) = (typed(english), typed(chinese));
            let plain =
                |set: BTreeSet<String>| set.into_iter().filter(|one| !one.contains('{')).collect::<BTreeSet<_>>();
            assert_eq!(plain(english_typed), plain(chinese_typed), "{english}");
        }
    }

    #[test]
    fn values_come_to_their_places() {
        let text = Text::new("set `{}` to {} in `{}` by hand", vec!["a".into(), "b".into(), "c".into()]);
        assert_eq!(text.to_string(), "set `a` to b in `c` by hand");
        assert_eq!(text.say(Lang::Zh), "请在 `c` 中手工把 `a` 设为 b");
        assert_eq!(fill("a { b", &[]), "a { b");
    }
}
