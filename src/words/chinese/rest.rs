//! The Chinese for the daemon, and what it says to commands.

/// By the English text.
pub(super) const TABLE: &[(&str, &str)] = &[
    // archive/backup
    ("cannot read `{}`", "无法读取 `{}`"),
    ("there is no `{}` to back up", "没有可备份的 `{}`"),
    ("run `rtcctl{} init`", "运行 `rtcctl{} init`"),
    ("the home is too large to back up", "home 过大，无法备份"),
    ("its files have {} bytes together; at most {} are taken", "其文件共 {} 字节；最多接受 {} 字节"),
    // archive/restore
    ("there is a home already, and nothing of it was changed", "已经有一个 home，没有改动它"),
    ("it has {} files, such as {}", "其中有 {} 个文件，例如 {}"),
    (
        "give another `--home`, or `--force` to put this one aside first",
        "换一个 `--home`，或用 `--force` 先把原来的移到一边",
    ),
    ("the home is as it was: {}", "home 保持原样：{}"),
    ("this is no backup that can be used", "这不是可用的备份"),
    ("`{}` is not the first file in it", "`{}` 不是其中的第一个文件"),
    ("its manifest cannot be read: {}", "无法读取其清单：{}"),
    ("it is of format {}; this version knows {}", "它的格式是 {}；此版本支持 {}"),
    ("use the version of rtcctl that made it, or a later one", "使用生成它的 rtcctl 版本或更新的版本"),
    ("it was not made by `rtcctl backup`", "它不是由 `rtcctl backup` 生成的"),
    ("`{}` is missing in it", "其中缺少 `{}`"),
    ("`{}` in it is not what was put there", "其中的 `{}` 与存入时不同"),
    ("`{}` is in it, and its manifest does not say so", "其中有 `{}`，而清单中没有"),
    ("`{}` belongs nowhere in a home", "`{}` 不属于 home 中的任何位置"),
    ("the configuration in this backup cannot be used", "此备份中的配置无法使用"),
    ("a later version may have written it; see `rtcctl{} version`", "可能由更新的版本写成；见 `rtcctl{} version`"),
    ("{}, {}", "{}，{}"),
    ("is missing; callers need one where `access` is key", "缺失；`access` 为 key 时呼叫者需要它"),
    ("what is there of a home is not whole, so it cannot be put aside", "现有的 home 不完整，因此无法移到一边"),
    ("move the files in `{}` away first", "请先移走 `{}` 中的文件"),
    ("cannot remove `{}`", "无法删除 `{}`"),
    // archive/tarball
    ("it is no compressed tar file", "不是压缩的 tar 文件"),
    ("it is cut off or damaged: {}", "不完整或已损坏：{}"),
    ("it has more than {} bytes in it", "其中的内容超过 {} 字节"),
    ("it has a name that is no text", "其中有不是文本的文件名"),
    ("`{}` in it is no plain file", "其中的 `{}` 不是普通文件"),
    ("`{}` is in it twice", "`{}` 在其中出现了两次"),
    ("`{}` in it is cut off", "其中的 `{}` 不完整"),
    // control/client
    ("rtcctl runs (pid {}), but nothing answers at `{}`", "rtcctl 在运行（进程号 {}），但 `{}` 没有应答"),
    (
        "if it is not starting or stopping just now, `rtcctl{} restart` helps",
        "如果它不是正在启动或停止，可运行 `rtcctl{} restart`",
    ),
    ("start it by `rtcctl{} start`", "用 `rtcctl{} start` 启动它"),
    ("rtcctl is not running", "rtcctl 没有在运行"),
    ("cannot reach the service by `{}`", "无法通过 `{}` 联系服务"),
    ("the service does not answer", "服务没有应答"),
    ("it has said nothing for {} s", "它已 {} 秒没有任何应答"),
    ("`rtcctl{} stop` ends it even if it hangs", "即使它卡住，`rtcctl{} stop` 也能结束它"),
    ("the daemon is down and has not come back within {} s", "守护进程没有运行，{} 秒内也没有恢复"),
    (
        "see `rtcctl{0} status` for when it is started again, or start it now by `rtcctl{0} start`",
        "用 `rtcctl{0} status` 查看它何时重新启动，或用 `rtcctl{0} start` 立即启动",
    ),
    // control/server
    ("cannot bind `{}`", "无法绑定 `{}`"),
    ("cannot start a thread for control", "无法启动控制线程"),
    ("this service belongs to another user", "此服务属于另一个用户"),
    ("use the rtcctl that the service was started with", "请使用启动服务时所用的 rtcctl"),
    ("cannot make sense of the request: {}", "无法理解请求：{}"),
    // daemon/changes
    ("relayed calls made an ICE restart", "中继的通话进行了 ICE 重启"),
    ("pages came back to their rooms", "页面已回到各自的房间"),
    ("the task was restarted", "任务已重启"),
    (
        "allocations by UDP stay where they are until they end, for an hour at most; connections stay",
        "UDP 分配留在原处直到结束，最长一小时；连接保持",
    ),
    ("connections stay", "连接保持"),
    ("for sockets that connect from now on", "对此后连接的套接字生效"),
    ("allocations stay; credentials of a secret that is gone are worthless", "分配保持；已删除的密钥签发的凭据作废"),
    ("who is in a room stays; who comes needs the new invite link", "已在房间里的人不受影响；新来的人需要新的邀请链接"),
    ("who is in a room stays", "已在房间里的人不受影响"),
    ("a new certificate in new handshakes; connections stay", "新的握手使用新证书；连接保持"),
    // daemon/checks
    ("without SNI", "不带 SNI"),
    ("SNI `{}`", "SNI `{}`"),
    ("the certificate that is served has expired", "正在使用的证书已过期"),
    // daemon/edited
    ("{} is not what it was when it was read", "{} 与读取时不同"),
    // daemon
    ("cannot take over the signals", "无法接管信号"),
    ("cannot leave the terminal", "无法脱离终端"),
    ("cannot hand the listening sockets to the service manager", "无法把监听套接字交给服务管理器"),
    (" (pid {})", "（进程号 {}）"),
    ("see `rtcctl{0} status`, or end it by `rtcctl{0} stop`", "用 `rtcctl{0} status` 查看，或用 `rtcctl{0} stop` 结束"),
    ("cannot watch the guardian", "无法监视看护进程"),
    ("a thread of the daemon panicked; see its log", "守护进程的一个线程崩溃；见其日志"),
    ("cannot start the thread `{}`", "无法启动线程 `{}`"),
    ("it is still starting", "它仍在启动"),
    // daemon/phone
    ("a phone would find nothing: the task {} is not ready", "手机什么也找不到：任务 {} 没有就绪"),
    ("see `rtcctl status` for why, and start it", "用 `rtcctl status` 查看原因，然后启动它"),
    ("too many terminals wait for a phone", "等待手机的终端过多"),
    ("end one of them by Ctrl-C", "按 Ctrl-C 结束其中一个"),
    // daemon/reload
    ("nothing was changed: the configuration before stays in force", "没有改动：以前的配置继续有效"),
    // edge/listeners
    ("there is no address to listen on for {}", "{} 没有可监听的地址"),
    ("list one as `{}.bind`", "在 `{}.bind` 中列出一个"),
    // edge/live
    ("cannot keep a listener", "无法保留监听套接字"),
    // edge
    ("cannot start a runtime for edge", "无法启动 edge 的运行时"),
    // edge/tls
    ("cannot configure TLS", "无法配置 TLS"),
    // guardian/client
    ("the daemon does not start", "守护进程没有启动"),
    ("rtcctl is just stopping for this home", "这个 home 的 rtcctl 正在停止"),
    ("try `rtcctl{} start` again", "请再次运行 `rtcctl{} start`"),
    ("the guardian gave an answer to another question", "看护进程的应答与所问的不符"),
    ("the guardian{} does not answer", "看护进程{}没有应答"),
    // guardian/run
    ("cannot bind the guardian's sockets", "无法绑定看护进程的套接字"),
    ("the daemon ended before it was ready", "守护进程在就绪之前退出了"),
    ("this home has a guardian already{}", "这个 home 已有看护进程{}"),
    ("the daemon (pid {}) that asked for a guardian is not there any more", "请求看护的守护进程（进程号 {}）已不存在"),
    // hooks
    ("cannot start the thread `hooks`", "无法启动线程 `hooks`"),
    // signaling/task
    ("cannot start a runtime for signaling", "无法启动 signaling 的运行时"),
    // supervisor/driver
    ("the service is stopping", "服务正在停止"),
    ("{} has not come to it within {} s", "{} 秒内没有轮到 {}"),
    ("look at it by `rtcctl status`", "用 `rtcctl status` 查看"),
    ("there is no task `{}`", "没有任务 `{}`"),
    ("ended without being asked to", "未经要求就结束了"),
    ("panicked: {}", "崩溃：{}"),
    ("cannot start a thread: {}", "无法启动线程：{}"),
    ("{} does not start", "{} 没有启动"),
    // supervisor/fleet
    ("waits for {}: {} has not been ready yet and is {}", "等待 {}：{} 还没有就绪过，状态是 {}"),
    // supervisor/policy
    ("did not become ready within {} s", "{} 秒内没有就绪"),
    ("did not end within {} s and was cut off", "{} 秒内没有结束，已被切断"),
    // supervisor/watchdog
    ("the loop `{}` has stood still for {} s", "循环 `{}` 已停住 {} 秒"),
    // sys/net
    ("the resolver knows the name but no address", "解析器知道该名称，但没有地址"),
    ("the resolver did not answer within {} s", "解析器 {} 秒内没有应答"),
    // sys/netns
    ("no addresses are left for a cable", "没有可用于虚拟网线的地址"),
    ("the cable could not be laid", "无法建立虚拟网线"),
    ("the thread has ended", "线程已结束"),
    ("the thread has panicked", "线程崩溃"),
    ("the program `ip` is not installed", "没有安装程序 `ip`"),
    ("`ip {}`: {}", "`ip {}`：{}"),
    // sys/ports
    ("cannot bind `{}/{}` for {}", "无法为 {2} 绑定 `{0}/{1}`"),
    ("`{}` already listens there; stop it or change `{}`", "`{}` 已在那里监听；停止它，或修改 `{}`"),
    (
        "another process, hidden from this user, listens there; find it as root by `ss -lpn sport = :{}`, or change `{}`",
        "另一个进程在那里监听，当前用户看不到它；以 root 用 `ss -lpn sport = :{}` 查找，或修改 `{}`",
    ),
    (
        "ports below 1024 need root or CAP_NET_BIND_SERVICE; run as root, or set `{}` to a port above 1023",
        "1024 以下的端口需要 root 或 CAP_NET_BIND_SERVICE；请以 root 运行，或把 `{}` 设为 1023 以上的端口",
    ),
    (
        "this host has no such address; compare with `ip address` and change the `bind` list beside it",
        "本机没有该地址；与 `ip address` 的输出比较，并修改旁边的 `bind` 列表",
    ),
    ("change `{}` if the port is reserved on this host", "如果该端口在本机被保留，请修改 `{}`"),
    // turn/control
    ("cannot relay by `{}`", "无法通过 `{}` 中继"),
    (
        "list addresses of this host as `turn.relay_ips`; public ones are `turn.public_ips`",
        "在 `turn.relay_ips` 中列出本机的地址；公网地址写在 `turn.public_ips`",
    ),
    // turn/listening
    ("too many ports of turn still drain from the last moves", "上几次迁移留下的 TURN 端口仍在排空，数量过多"),
    (
        "let their calls end, or end them by `rtcctl restart turn`",
        "等这些通话结束，或用 `rtcctl restart turn` 结束它们",
    ),
    // turn/plane/stream
    ("cannot make an eventfd for turn", "无法为 turn 建立 eventfd"),
    // turn/plane/waiting
    ("cannot watch the sockets of turn", "无法监视 turn 的套接字"),
    ("cannot wait for the sockets of turn", "无法等待 turn 的套接字"),
    // turn/sockets
    ("there is no address to listen on for turn", "turn 没有可监听的地址"),
    ("list one as `turn.bind`", "在 `turn.bind` 中列出一个"),
    // turn/task
    ("cannot start a thread for turn", "无法启动 turn 的线程"),
    ("cannot signal the workers of turn", "无法通知 turn 的工作线程"),
    // upgrade/program
    ("`{}` is too large to be a program", "`{}` 过大，不可能是程序"),
    ("`{}` is not the file that was meant", "`{}` 不是所指的文件"),
    ("its SHA-256 is {}, not {}", "它的 SHA-256 是 {}，而不是 {}"),
    ("fetch it again; nothing was changed", "请重新下载；没有改动"),
    ("`{}` does not run on this machine", "`{}` 不能在本机运行"),
    ("it is no program for Linux (it has no ELF header)", "它不是 Linux 程序（没有 ELF 文件头）"),
    ("it is for {}, and this machine runs {}", "它用于 {}，而本机是 {}"),
    ("it is no program but a part of one", "它不是完整的程序，只是其中一部分"),
    ("cannot read this program", "无法读取本程序"),
    ("another upgrade of `{}` is under way{}", "`{}` 的另一次升级正在进行{}"),
    ("this user may not replace `{}`", "当前用户无权替换 `{}`"),
    ("run it as root", "请以 root 运行"),
    ("cannot replace `{}`", "无法替换 `{}`"),
    ("cannot bring `{}` back", "无法恢复 `{}`"),
    // upgrade/rehearsal
    ("`{}` does not run", "`{}` 无法运行"),
    ("`{}` has not ended within {} s", "`{}` 在 {} 秒内没有结束"),
    ("`{} {}` fails", "`{} {}` 失败"),
    ("`{}` is no rtcctl", "`{}` 不是 rtcctl"),
    ("it says `{}`", "它的输出是 `{}`"),
    ("`{}` tells a status that cannot be read", "`{}` 给出的状态无法读取"),
    ("`{}` does not serve", "`{}` 没有在服务"),
    ("there are no two ports to rehearse on", "没有两个可用于试运行的端口"),
    // web/files
    ("cannot serve the folder `{}`", "无法提供目录 `{}`"),
    ("change `web.root`, or leave it empty for the built-in page", "修改 `web.root`，或留空以使用内置网页"),
    // web/task
    ("cannot start a runtime for web", "无法启动 web 的运行时"),
    // words/system
    ("Operation not permitted (os error 1)", "不允许的操作（系统错误 1）"),
    ("No such file or directory (os error 2)", "文件或目录不存在（系统错误 2）"),
    ("Permission denied (os error 13)", "权限不足（系统错误 13）"),
    ("File exists (os error 17)", "文件已存在（系统错误 17）"),
    ("Not a directory (os error 20)", "不是目录（系统错误 20）"),
    ("Is a directory (os error 21)", "是一个目录（系统错误 21）"),
    ("Too many open files (os error 24)", "打开的文件过多（系统错误 24）"),
    ("No space left on device (os error 28)", "磁盘空间不足（系统错误 28）"),
    ("Read-only file system (os error 30)", "文件系统只读（系统错误 30）"),
    ("Address already in use (os error 98)", "地址已被占用（系统错误 98）"),
    ("Cannot assign requested address (os error 99)", "本机没有该地址（系统错误 99）"),
    ("Network is unreachable (os error 101)", "网络不可达（系统错误 101）"),
    ("Connection reset by peer (os error 104)", "连接被对方重置（系统错误 104）"),
    ("Connection timed out (os error 110)", "连接超时（系统错误 110）"),
    ("Connection refused (os error 111)", "连接被拒绝（系统错误 111）"),
    ("No route to host (os error 113)", "没有到达该主机的路由（系统错误 113）"),
    // words
    ("{} or {}", "{} 或 {}"),
    ("{} and {}", "{} 和 {}"),
    ("{}{}", "{}{}"),
    ("rtcctl runs already for this home", "这个 home 的 rtcctl 已在运行"),
    ("a guardian looks after this home already", "这个 home 已有看护进程"),
];
