package console

// Words is every label of the pages in one language. A page uses them by field, so a missing one does not compile into
// a template, and a test finds an empty one.
type Words struct {
	Code, Name, Other, OtherName string // zh-CN, 中文, and the language to switch to

	Overview, Users, Messages, Deliveries, Endpoints, Errcodes string

	Ready, Unready                                string
	Apps, App, AppID, Kind, TokenAge, TokenLeft   string
	NoToken                                       string
	Queue, Lane, Waiting, Later, InHand, Parked   string
	Buried, Oldest, NoLanes                       string
	Recent, NoRecent, Partners                    string
	Live, LiveOn, NoApps, ReadAt, Unreadable      string
	FindUser, FindMessage, OpenID, Find, Template string
	Credits, Unproven, Reserved, History          string
	NoLines, At, Cause, Delta, Balance, UpdatedAt string
	User, LineHint                                string

	ID, State, Channel, Attempts, Created, Updated, Timeline string
	Errcode, RID, MsgID, Metadata, NoMessages, Next          string

	Endpoint, URL, Events, Health, Since, Until, Failures    string
	NoEndpoints, Healthy, Benched, Disabled, Probing, Enable string
	Type                                                     string
	Replay, Replayed, NoDeliveries, Reason, All, Ended       string
	Retrying                                                 string

	Meaning, Cure, Reaction string

	NotFound, NotFoundHint, Trouble, TroubleHint, Stale, StaleHint string
	Never, Now, Ago, In                                            string
}

// English and Chinese are the two languages.
var (
	English = Words{
		Code: "en", Name: "English", Other: "zh", OtherName: "中文",
		Overview: "Overview", Users: "Users", Messages: "Messages", Deliveries: "Deliveries", Endpoints: "Endpoints", Errcodes: "WeChat errcodes",
		Ready: "Ready", Unready: "Not ready",
		Apps: "Apps", App: "App", AppID: "AppID", Kind: "Kind", TokenAge: "Fetched", TokenLeft: "Ends",
		NoToken: "none held by this process",
		Queue:   "Queue", Lane: "Lane", Waiting: "Waiting", Later: "Later", InHand: "In hand", Parked: "Parked",
		Buried: "Buried", Oldest: "Oldest waiting", NoLanes: "Every lane is empty.",
		Recent: "Latest messages", NoRecent: "No messages yet.", Partners: "Partners",
		Live: "Refresh every 5 s", LiveOn: "Refreshing · stop", NoApps: "No apps are configured.", ReadAt: "Read at", Unreadable: "Could not be read: Redis does not answer.",
		FindUser: "Find a user's subscriptions", FindMessage: "Find a message", OpenID: "openid", Find: "Find", Template: "Template",
		Credits: "Credits", Unproven: "unproven", Reserved: "Reserved", History: "Statement",
		NoLines: "This user has never answered for a template here.", At: "At", Cause: "Cause", Delta: "Change", Balance: "Balance", UpdatedAt: "Last change",
		User: "User", LineHint: "A line is one app, one user, one template.",
		ID: "Id", State: "State", Channel: "Channel", Attempts: "Attempts", Created: "Created", Updated: "Changed", Timeline: "Timeline",
		Errcode: "errcode", RID: "rid", MsgID: "msgid", Metadata: "metadata", NoMessages: "No messages.", Next: "Older",
		Endpoint: "Endpoint", URL: "URL", Events: "Events", Health: "Health", Since: "Since", Until: "Probed at", Failures: "Failures in a row",
		NoEndpoints: "No partner has an endpoint.", Healthy: "healthy", Benched: "benched", Disabled: "disabled", Probing: "probing", Enable: "Enable",
		Type:   "Event",
		Replay: "Replay", Replayed: "Queued again under the same webhook-id.", NoDeliveries: "Nothing here.", Reason: "Reason", All: "All", Ended: "Delivered",
		Retrying: "On the way",
		Meaning:  "Meaning", Cure: "What to do", Reaction: "Reaction",
		NotFound: "Nothing there", NotFoundHint: "Ended messages and deliveries are forgotten after the retention time.",
		Trouble: "This could not be read", TroubleHint: "Redis or WeChat did not answer. The checks on the overview say more.",
		Stale: "The form is too old", StaleHint: "Load the page again and press once more.",
		Never: "never", Now: "now", Ago: "ago", In: "in",
	}
	Chinese = Words{
		Code: "zh-CN", Name: "中文", Other: "en", OtherName: "English",
		Overview: "总览", Users: "用户", Messages: "消息", Deliveries: "投递", Endpoints: "接收地址", Errcodes: "微信错误码",
		Ready: "就绪", Unready: "未就绪",
		Apps: "应用", App: "应用", AppID: "AppID", Kind: "类型", TokenAge: "获取于", TokenLeft: "失效于",
		NoToken: "本进程未持有",
		Queue:   "队列", Lane: "通道", Waiting: "待处理", Later: "延后", InHand: "处理中", Parked: "搁置",
		Buried: "已埋葬", Oldest: "最久等待", NoLanes: "所有通道均为空。",
		Recent: "最近的消息", NoRecent: "还没有消息。", Partners: "合作方",
		Live: "每 5 秒刷新", LiveOn: "正在刷新 · 停止", NoApps: "尚未配置应用。", ReadAt: "读取于", Unreadable: "无法读取：Redis 没有应答。",
		FindUser: "查询用户的订阅", FindMessage: "查询消息", OpenID: "openid", Find: "查询", Template: "模板",
		Credits: "可用次数", Unproven: "未经证实", Reserved: "占用", History: "明细",
		NoLines: "该用户在此尚未对任何模板作出选择。", At: "时间", Cause: "原因", Delta: "变动", Balance: "余额", UpdatedAt: "最近变动",
		User: "用户", LineHint: "一条记录对应一个应用、一个用户、一个模板。",
		ID: "编号", State: "状态", Channel: "渠道", Attempts: "尝试次数", Created: "创建", Updated: "变更", Timeline: "时间线",
		Errcode: "errcode", RID: "rid", MsgID: "msgid", Metadata: "metadata", NoMessages: "没有消息。", Next: "更早",
		Endpoint: "接收地址", URL: "URL", Events: "事件", Health: "健康", Since: "始于", Until: "下次探测", Failures: "连续失败",
		NoEndpoints: "没有合作方配置接收地址。", Healthy: "正常", Benched: "暂停", Disabled: "停用", Probing: "探测中", Enable: "启用",
		Type:   "事件",
		Replay: "重放", Replayed: "已以相同的 webhook-id 重新排队。", NoDeliveries: "没有内容。", Reason: "原因", All: "全部", Ended: "已送达",
		Retrying: "投递中",
		Meaning:  "含义", Cure: "处理办法", Reaction: "应对",
		NotFound: "不存在", NotFoundHint: "已结束的消息和投递在保留期之后会被清除。",
		Trouble: "暂时无法读取", TroubleHint: "Redis 或微信没有应答，总览页的检查项有更多说明。",
		Stale: "表单已过期", StaleHint: "请重新打开页面后再试。",
		Never: "从未", Now: "刚刚", Ago: "前", In: "后",
	}
)
