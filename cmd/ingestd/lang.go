package main

import "strings"

// Languages of what is printed for people: the headings of tables. What is a term of the
// field stands in both languages anyway, errors are English, and what machines read is in
// no language.
const (
	langChinese = "zh-CN"
	langEnglish = "en"
)

// languageOf is the first that a locale says, as LC_ALL, LC_MESSAGES and LANG have it
// (locale(7)); English where none is Chinese.
func languageOf(locales ...string) string {
	for _, l := range locales {
		if l != "" {
			if strings.HasPrefix(l, "zh") {
				return langChinese
			}
			return langEnglish
		}
	}
	return langEnglish
}

// headings are those of a table in the language of the reader.
func (a *app) headings(english []string) (all []string) {
	for _, h := range english {
		if a.lang == langChinese {
			h = chineseHeadings[h]
		}
		all = append(all, h)
	}
	return all
}

var chineseHeadings = map[string]string{
	"ACCESS":           "接入方式",
	"ACTOR":            "操作者",
	"ADDED":            "设置时间",
	"BY":               "操作者",
	"BYTES":            "字节",
	"CASE":             "案号",
	"CLOCK OFF":        "时钟不准",
	"CLOCK READ":       "读时钟",
	"CLOCK UNKNOWN":    "时钟未知",
	"DAYS":             "天数",
	"DEVICE":           "设备",
	"DISKS":            "磁盘",
	"DOCKED":           "接入时间",
	"EARLY REMOVALS":   "提前拔出",
	"EFFECT":           "影响",
	"EVENT":            "事项",
	"FAILED":           "部分未入库",
	"FILES":            "文件",
	"FROM":             "来自",
	"GAPS":             "记录中断",
	"HOLD":             "保全编号",
	"ID":               "标识",
	"INDEX":            "行号",
	"INTERFACES":       "功能",
	"KEEPS":            "保全项数",
	"KEPT UNTIL":       "保存至",
	"KEPT UNTIL BY IT": "按此保存至",
	"KIND":             "类型",
	"KNOWN BY":         "识别依据",
	"LOCKED UNTIL":     "锁定至",
	"MADE":             "建立时间",
	"MONTH":            "月份",
	"NAME":             "名称",
	"NEAR HOLD":        "相邻的保全",
	"NOTE":             "备注",
	"NOW UNTIL":        "延长至",
	"OBJECTS":          "对象",
	"OFFICER":          "执法人员",
	"PATH":             "路径",
	"PORT":             "接口",
	"PROFILE":          "机型配置",
	"REASON":           "原因",
	"RECORDER":         "记录仪",
	"RECORDINGS":       "音像记录",
	"ROLE":             "角色",
	"RULE":             "依据",
	"SEALED":           "全部入库",
	"SERIAL":           "编号",
	"SESSION":          "批次号",
	"SESSIONS":         "采集批次",
	"SET":              "校时",
	"SETTING":          "设置项",
	"SHA-256":          "SHA-256",
	"SIZE":             "大小",
	"SLOT":             "槽位",
	"STATE":            "状态",
	"TAG":              "标记",
	"TAGS AND HOLDS":   "标记和保全",
	"TESTED WITH":      "试过的设备",
	"TIME":             "时间",
	"TITLE":            "名称",
	"UNIT":             "部门",
	"VALUE":            "值",
	"VIEWED":           "查看",
	"VIEWS":            "播放下载",
	"WHY":              "理由",
}
