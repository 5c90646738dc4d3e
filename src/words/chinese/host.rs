//! The Chinese for setting a host up, its firewall and its cloud.

/// By the English text.
pub(super) const TABLE: &[(&str, &str)] = &[
    // setup/answers
    ("{} takes one value, not {}", "{} 只能有一个值，不能有 {} 个"),
    ("{} {}: must be a port from 1 to 65535", "{} {}：必须是 1 到 65535 的端口"),
    ("{} {}: must be lan, ip or domain", "{} {}：必须是 lan、ip 或 domain"),
    ("{}: must be a name or an address", "{}：必须是名称或地址"),
    ("{} {}: must be self-signed, acme or files", "{} {}：必须是 self-signed、acme 或 files"),
    ("{} {}: must be auto, http-01, tls-alpn-01 or dns-01", "{} {}：必须是 auto、http-01、tls-alpn-01 或 dns-01"),
    (
        "{} {}: must be the absolute path of a program; give it again for each argument",
        "{} {}：必须是程序的绝对路径；每个参数再写一次该选项",
    ),
    ("{} {}: must be open or key", "{} {}：必须是 open 或 key"),
    ("{}, or off", "{}，或 off"),
    ("{} {}: must be self, public, lan or custom", "{} {}：必须是 self、public、lan 或 custom"),
    ("{} {}: must be yes or no", "{} {}：必须是 yes 或 no"),
    ("{} {}: must be apply, show or skip", "{} {}：必须是 apply、show 或 skip"),
    ("{} {}: must be service or none", "{} {}：必须是 service 或 none"),
    ("{} {}: must be an IP address", "{} {}：必须是 IP 地址"),
    // setup/apply
    ("another `init` was cut off since this plan was made", "在制定此计划之后，另一次 `init` 被中断"),
    ("`{}` needs no change any more", "`{}` 已不需要改动"),
    ("`{}` is there by now", "`{}` 现在已经存在"),
    ("`{}` is gone by now", "`{}` 现在已经不存在"),
    ("`{}` is no plain file", "`{}` 不是普通文件"),
    ("move it away, or choose another home by `--home DIR`", "把它移走，或用 `--home DIR` 换一个 home"),
    ("`{}` was edited meanwhile", "`{}` 在此期间被修改"),
    ("`{}` is not what was written", "`{}` 与写入的内容不同"),
    (
        "look for another program that writes it, and for the health of the disk",
        "检查是否有其他程序在写它，以及磁盘是否正常",
    ),
    ("`{}` is a link that leads nowhere", "`{}` 是指向不存在目标的链接"),
    ("remove it, or make what it should lead to", "删除它，或建立它应指向的目标"),
    ("the host is not as it was when this plan was made", "主机的状态与制定此计划时不同"),
    ("run `rtcctl init` again", "再次运行 `rtcctl init`"),
    ("interrupted", "已中断"),
    ("no access key can be added to `{}` as it is written", "`{}` 的写法无法加入访问密钥"),
    ("the certificate that was made is not the one that is wanted", "生成的证书与所需的不符"),
    ("cannot find `{}`", "找不到 `{}`"),
    ("`{}` has the mode {} instead of {}", "`{}` 的权限是 {}，应为 {}"),
    ("choose a home on a file system that keeps permissions", "选择一个位于保留权限的文件系统上的 home"),
    // setup/boot/act
    ("make", "创建"),
    ("cannot {} `{}`", "无法{} `{}`"),
    ("nothing on this host can make the user {}", "本机没有能创建用户 {} 的程序"),
    (
        "install `useradd`: the package is passwd, shadow or shadow-utils",
        "安装 `useradd`：软件包是 passwd、shadow 或 shadow-utils",
    ),
    ("nothing on this host can remove the user {}", "本机没有能删除用户 {} 的程序"),
    ("`{}` does not work", "`{}` 无法工作"),
    ("`{}` has failed: {}", "`{}` 失败：{}"),
    // setup/boot/owners
    ("cannot change the owner of `{}`", "无法修改 `{}` 的所有者"),
    // setup/bootstrap
    ("it has {} bytes; providers take less than {}", "共 {} 字节；云厂商要求小于 {}"),
    ("no address is given from which the program can be fetched", "没有给出可下载本程序的地址"),
    ("`{}` is no plain `https://` address", "`{}` 不是普通的 `https://` 地址"),
    // setup/cloud/answers
    ("it answers with something that is no session token", "它的应答不是会话令牌"),
    ("it answers with something that is no text", "它的应答不是文本"),
    ("it answers with something that is not the document that was asked for", "它的应答不是所询问的文档"),
    ("it answers with something that is no public address", "它的应答不是公网地址"),
    ("it answers with a redirect (status {}), which is not followed", "它的应答是重定向（状态 {}），不会跟随"),
    ("it refuses to tell (status {})", "它拒绝提供（状态 {}）"),
    ("it answers with status {}", "它的应答状态是 {}"),
    // setup/cloud/metadata
    ("{} does not tell a machine its public address", "{} 不向机器提供公网地址"),
    ("it did not answer within {} s", "{} 秒内没有应答"),
    ("it answers with status {} again and again", "它一再应答状态 {}"),
    ("nothing answers at {}: {}", "{} 没有应答：{}"),
    ("nothing answers at {} within {} s", "{} 在 {} 秒内没有应答"),
    ("the answer of {} breaks off: {}", "{} 的应答中断：{}"),
    ("it cannot be asked: {}", "无法询问：{}"),
    // setup/cloud
    ("it was not looked for", "没有查找"),
    (
        "no metadata service was to be asked (`--offline`, `--no-cloud`, or callers are in the own network)",
        "按要求没有询问元数据服务（`--offline`、`--no-cloud`，或呼叫者在内网）",
    ),
    ("the firmware names no cloud that is known", "固件中没有已知的云厂商"),
    ("the firmware says {}", "固件显示为 {}"),
    ("there is no firmware to read, and its metadata service answers", "没有可读的固件，而它的元数据服务有应答"),
    ("there is no firmware to read, and no metadata service answers", "没有可读的固件，也没有元数据服务应答"),
    // setup/cloud/provider
    ("security group", "安全组"),
    ("network security group", "网络安全组"),
    ("cloud firewall", "云防火墙"),
    ("VPC firewall", "VPC 防火墙"),
    ("security list", "安全列表"),
    // setup/facts
    ("`{}` holds no certificate in PEM", "`{}` 中没有 PEM 格式的证书"),
    // setup/facts/outside
    ("it has no address of this family", "它没有该协议族的地址"),
    ("{}: it sees {}", "{}：它看到 {}"),
    ("its public address is {}", "其公网地址是 {}"),
    ("it has no public address of its own", "它没有自己的公网地址"),
    ("its public address is not known: {}", "其公网地址未知：{}"),
    ("this machine is at {} ({}); {}", "本机位于 {}（{}）；{}"),
    (
        "it is not clear under which address callers reach this host ({}); say it by `--public-ip`",
        "不清楚呼叫者用哪个地址访问本机（{}）；请用 `--public-ip` 指定",
    ),
    // setup/firewall/act
    ("cannot run `{}`", "无法运行 `{}`"),
    ("`{}` failed", "`{}` 失败"),
    (
        "a firewall can be read and changed by root only; in a container it is the host's",
        "只有 root 能读取和修改防火墙；在容器中，防火墙属于主机",
    ),
    // setup/firewall/confirm
    ("no pending file", "没有待确认文件"),
    // setup/firewall/detect
    ("cannot understand the rules of nftables", "无法理解 nftables 的规则"),
    (
        "firewalld does not run, and its configuration has a service of ours",
        "firewalld 没有运行，而它的配置中有 rtcctl 的服务",
    ),
    ("start firewalld, and run the same command again", "启动 firewalld，再运行同一命令"),
    ("or, if it is not to run any more, remove `{}`", "如果不再需要运行 firewalld，请删除 `{}`"),
    ("firewalld does not answer", "firewalld 没有应答"),
    // setup/firewall
    ("the firewall is not as it was when this plan was made", "防火墙的状态与制定此计划时不同"),
    ("something else has changed its rules since", "在此期间有其他程序修改了规则"),
    (
        "a rule in one of them may open nothing, and both are never touched",
        "只在其中一个添加规则可能不起作用，而两者绝不会同时改动",
    ),
    (
        "move to one of them, or run the commands that `rtcctl firewall plan` shows by hand",
        "统一使用其中一个，或手工运行 `rtcctl firewall plan` 显示的命令",
    ),
    ("the firewall does not hold what was set", "防火墙没有保留所设的规则"),
    ("`{}` would still have to be done", "还需要执行 `{}`"),
    ("something else changes its rules at the same time; try again", "有其他程序同时在修改规则；请再试一次"),
    ("the firewall could not be changed; it is as it was", "无法修改防火墙；已恢复原状"),
    ("the firewall could not be changed, and not all of it could be taken back", "无法修改防火墙，而且没有全部撤销"),
    (
        "see `rtcctl firewall status`, then run `rtcctl firewall close`",
        "查看 `rtcctl firewall status`，然后运行 `rtcctl firewall close`",
    ),
    ("`rtcctl firewall {}` needs root", "`rtcctl firewall {}` 需要 root"),
    ("run `sudo rtcctl{} firewall {}`", "运行 `sudo rtcctl{} firewall {}`"),
    ("see what can be told without: `rtcctl{} firewall plan`", "没有 root 时可以查看：`rtcctl{} firewall plan`"),
    ("a command of a run that was killed still changes the firewall", "被终止的那次运行所启动的命令仍在修改防火墙"),
    ("another run of rtcctl changes the firewall{}", "另一个 rtcctl 正在修改防火墙{}"),
    ("wait for its end, then try again", "等它结束后再试"),
    // setup/firewall/nft_json
    ("nft wrote no JSON: {}", "nft 的输出不是 JSON：{}"),
    ("nft wrote JSON without `nftables`", "nft 的 JSON 输出中没有 `nftables`"),
    // setup/firewall/record
    ("no record", "没有记录"),
    // setup/journal/image
    ("read", "读取"),
    ("only a file that was there can be restored", "只能恢复原来就存在的文件"),
    // setup/journal
    ("open the file", "打开文件"),
    ("write", "写入"),
    ("create the folder", "创建目录"),
    (
        "another `init`, `undo` or `uninstall` is at work on this home{}",
        "另一个 `init`、`undo` 或 `uninstall` 正在处理这个 home{}",
    ),
    ("wait until it has ended, and try again", "等它结束后再试"),
    ("the journal `{}` is damaged", "操作记录 `{}` 已损坏"),
    (
        "`rtcctl config check` tells whether the rest is whole; move `{}` away to go on without it",
        "`rtcctl config check` 可检查其余部分是否完整；把 `{}` 移走即可不带它继续",
    ),
    // setup/journal/record
    ("it has the form {}, and this version knows {}", "它的格式是 {}，此版本支持 {}"),
    ("a step that was never begun is taken back", "撤销了从未开始的步骤"),
    ("there is no run {}", "没有第 {} 次运行"),
    // setup/trusting
    ("{} cannot be told to trust the local CA", "无法让 {} 信任本地 CA"),
    ("it does not know it afterwards", "之后它仍然没有该证书"),
    // setup/undo
    ("an earlier `init` was cut off, and not all of it can be taken back", "之前的 `init` 被中断，而且无法全部撤销"),
    ("{}; nothing was changed", "{}；没有改动"),
    ("this could not be taken back: {}", "以下未能撤销：{}"),
];
