//! What `rtcctl phone` says, in English and Chinese.

use crate::cli::words::span;
use crate::phone::report::{Grade, Note, Step};
use crate::phone::verdict::Hint;
use crate::words::Lang;

/// Everything that is said, in one language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub(super) language: Lang,
}

impl Words {
    fn pick(self, en: &'static str, zh: &'static str) -> &'static str {
        match self.language {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }

    pub(super) fn invite(self) -> &'static str {
        self.pick(
            "Scan this with a phone, or open the address there. It will ask for the camera: allow it.",
            "用手机扫码，或在手机上打开此网址。页面会请求使用摄像头，请允许。",
        )
    }

    pub(super) fn bounds(self, seconds: u64) -> String {
        let span = span(seconds);
        match self.language {
            Lang::En => format!("The code is good for one phone and {span}. Ctrl-C ends it.\n"),
            Lang::Zh => format!("此码仅供一部手机使用，{span} 内有效。按 Ctrl-C 作废。\n"),
        }
    }

    pub(super) fn only_here(self) -> &'static str {
        self.pick(
            "warning: no phone can reach this address. Put the one that others use first in `hosts` and reload.",
            "警告：手机无法访问此地址。请把其他设备使用的地址放在 `hosts` 的第一位，然后重新加载。",
        )
    }

    pub(super) fn interrupted(self) -> &'static str {
        self.pick("interrupted: the code is good for nothing any more", "已中断，此码已作废")
    }

    pub(super) fn gone(self, is_there: bool) -> &'static str {
        if is_there {
            self.pick("the phone did not come to a verdict in time", "手机未能在时限内得出结论")
        } else {
            self.pick("no phone came in time, or the service was restarted", "没有手机及时打开，或服务已重启")
        }
    }

    pub(super) fn again(self, home: &str) -> String {
        match self.language {
            Lang::En => format!("run `rtcctl{home} phone` again; `--timeout` gives more time"),
            Lang::Zh => format!("请再次运行 `rtcctl{home} phone`；用 `--timeout` 可延长时间"),
        }
    }

    pub(super) fn lonely(self, home: &str) -> String {
        match self.language {
            Lang::En => format!(
                "Nothing yet. If the page does not open on the phone: is it in a network that reaches this host (same Wi-Fi, \
                 no guest network)? Is the port open in the firewall and at the provider (see `rtcctl{home} status`)? If the \
                 browser warns of the certificate, go on by its \"advanced\" button."
            ),
            Lang::Zh => format!(
                "还没有动静。如果手机打不开页面：手机所在网络能否访问本机（同一 Wi-Fi，而非访客网络）？防火墙和云厂商的安全组是否放行了该端口（见 \
                 `rtcctl{home} status`）？如果浏览器提示证书问题，请点“高级”继续访问。"
            ),
        }
    }

    pub(super) fn opened(self, browser: &str, address: &str) -> String {
        match self.language {
            Lang::En => format!("Opened by {browser}, from {address}"),
            Lang::Zh => format!("已打开：{browser}，来自 {address}"),
        }
    }

    pub(super) fn refused(self, browser: &str, address: &str) -> String {
        match self.language {
            Lang::En => format!("{browser} from {address} came with the same code and was refused"),
            Lang::Zh => format!("{browser}（{address}）使用了同一个码，已拒绝"),
        }
    }

    pub(super) fn waiting(self, is_there: bool, at: Option<Step>, seconds: u64) -> String {
        let what = match (is_there, at) {
            (true, Some(Step::Camera)) => self.pick("the phone asks for the camera", "手机正在请求使用摄像头"),
            (true, Some(Step::Call)) => self.pick("the phone calls itself", "手机正在与自己通话"),
            (true, _) => self.pick("the phone tries", "手机正在尝试"),
            (false, _) => self.pick("waiting for a phone", "等待手机"),
        };
        format!("… {what} ({})", span(seconds))
    }

    pub(super) fn step(self, step: Step) -> &'static str {
        match step {
            Step::Page => self.pick("page", "网页"),
            Step::Trust => self.pick("certificate", "证书"),
            Step::Camera => self.pick("camera", "摄像头"),
            Step::Host => self.pick("own address", "本机地址"),
            Step::Srflx => self.pick("outer address", "外网地址"),
            Step::Udp => self.pick("relay by UDP", "UDP 中继"),
            Step::Tcp => self.pick("relay by TCP", "TCP 中继"),
            Step::Tls => self.pick("relay by TLS", "TLS 中继"),
            Step::Call => self.pick("call", "中继通话"),
        }
    }

    pub(super) fn note(self, note: Note) -> &'static str {
        match note {
            Note::Insecure => self.pick("not by HTTPS", "不是 HTTPS"),
            Note::OldBrowser => self.pick("the browser cannot call", "浏览器不支持通话"),
            Note::Trusted => self.pick("trusted, no warning", "受信任，无警告"),
            Note::Warned => self.pick("accepted after a warning", "在警告之后被接受"),
            Note::Unknowable => self.pick("accepted; this browser does not tell how", "已接受；此浏览器不透露方式"),
            Note::Denied => self.pick("not allowed", "未获允许"),
            Note::DeniedBySystem => self.pick("not allowed by the system", "系统不允许"),
            Note::Busy => self.pick("used by another program", "被其他程序占用"),
            Note::NoDevice => self.pick("there is none", "没有设备"),
            Note::NoAnswer => self.pick("nobody answered the question for it", "无人应答权限请求"),
            Note::NoMicrophone => self.pick("without a microphone", "没有麦克风"),
            Note::NoAddress => self.pick("none is told", "未提供"),
            Note::SameNetwork => self.pick("the same: no NAT in between", "相同：中间没有 NAT"),
            Note::NameNotFound => self.pick("the name was not found", "找不到该域名"),
            Note::Silent => self.pick("no answer", "无应答"),
            Note::NoTls => self.pick(
                "no TLS: the port is blocked, or the certificate is not trusted for this name",
                "无法建立 TLS：端口被拦截，或证书对此名称不受信任",
            ),
            Note::Refused => self.pick("the server refuses", "服务器拒绝"),
            Note::Full => self.pick("the server has no relay left", "服务器没有空闲的中继"),
            Note::NoUrl => self.pick("not offered", "未提供"),
            Note::NoConnection => self.pick("no connection", "未能连接"),
            Note::NoPicture => self.pick("no picture", "没有画面"),
            Note::Lossy => self.pick("many packets are lost", "丢包较多"),
        }
    }

    pub(super) fn frames(self, frames: f64) -> String {
        match self.language {
            Lang::En => format!("{frames:.0} frames"),
            Lang::Zh => format!("{frames:.0} 帧"),
        }
    }

    pub(super) fn lost(self, loss: f64) -> String {
        match self.language {
            Lang::En => format!("{loss:.1} % lost"),
            Lang::Zh => format!("丢包 {loss:.1} %"),
        }
    }

    pub(super) fn verdict(self, grade: Grade) -> &'static str {
        match grade {
            Grade::Good => self.pick("Calls work from this phone.", "这部手机可以通话。"),
            Grade::Fair => self.pick("Calls work from this phone, with limits.", "这部手机可以通话，但有限制。"),
            Grade::Bad | Grade::Running => self.pick("Calls do not work from this phone.", "这部手机无法通话。"),
        }
    }

    pub(super) fn hint_mark(self) -> &'static str {
        self.pick("hint:", "提示：")
    }

    pub(super) fn hint(self, hint: Hint) -> &'static str {
        match hint {
            Hint::OpenByHttps => {
                self.pick("open the page by its https:// address", "请用 https:// 地址打开页面")
            }
            Hint::UpdateBrowser => self.pick(
                "update the browser, or use Chrome, Safari or Firefox instead of one inside another app",
                "请更新浏览器，或改用 Chrome、Safari、Firefox，而不是其他应用内置的浏览器",
            ),
            Hint::RelayUnreachable => self.pick(
                "no relay was reached: open the TURN port for UDP and TCP here and at the provider, and try `rtcctl turn test`",
                "未能连上任何中继：请在本机和云厂商处放行 TURN 端口的 UDP 和 TCP，并运行 `rtcctl turn test`",
            ),
            Hint::RelayCannotReachItself => self.pick(
                "relays were had, but nothing went from one to the other: try `rtcctl turn test`, and look at the relay's ports",
                "已得到中继，但数据未能从一个到达另一个：请运行 `rtcctl turn test`，并检查中继端口",
            ),
            Hint::AllowCamera => self.pick(
                "allow camera and microphone for this page in the browser, then scan again",
                "请在浏览器中允许此页面使用摄像头和麦克风，然后重新扫码",
            ),
            Hint::AllowCameraInSystem => self.pick(
                "allow the browser to use the camera in the settings of the system, then scan again",
                "请在系统设置中允许浏览器使用摄像头，然后重新扫码",
            ),
            Hint::FreeCamera => {
                self.pick("close the program that uses the camera, then scan again", "请关闭占用摄像头的程序，然后重新扫码")
            }
            Hint::ConnectCamera => self.pick(
                "this device has no camera: it can listen, and share its screen where its browser can",
                "此设备没有摄像头：可以收听，浏览器支持时可以共享屏幕",
            ),
            Hint::OpenUdp => self.pick(
                "open the TURN port for UDP: in the network of the phone or in the firewall here. Without it, pictures stutter when packets get lost",
                "请放行 TURN 端口的 UDP：在手机所在网络或本机防火墙。否则丢包时画面会卡顿",
            ),
            Hint::OpenTcp => self.pick(
                "open the TURN port for TCP as well, for networks that block UDP",
                "请同时放行 TURN 端口的 TCP，以便拦截 UDP 的网络使用",
            ),
            Hint::TrustForTls => self.pick(
                "TURN by TLS needs a certificate that the phone trusts: open /trust there, or get one by `rtcctl init --cert acme`",
                "TLS 中继需要手机信任的证书：在手机上打开 /trust，或用 `rtcctl init --cert acme` 申请证书",
            ),
            Hint::OpenTls => self.pick(
                "TURN by TLS was not reached; browsers do it for a host known by its name, and the HTTPS port must be open",
                "未能连上 TLS 中继；浏览器需要以域名访问的主机，且 HTTPS 端口必须放行",
            ),
            Hint::PoorNetwork => self.pick(
                "the network loses packets: go nearer to the Wi-Fi, or use another network",
                "网络丢包：请靠近 Wi-Fi，或换一个网络",
            ),
            Hint::TrustCertificate => self.pick(
                "to be rid of the browser's warning, open /trust on the phone",
                "要消除浏览器的警告，请在手机上打开 /trust",
            ),
        }
    }
}
