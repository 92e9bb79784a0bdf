package wechat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sdkModule = "github.com/silenceper/wechat/v2/"

// sdkCalls is what of the SDK may be used by the product (DECISIONS 3): by package, its names.
var sdkCalls = map[string][]string{
	"util":                 {"DefaultHTTPClient", "HTTPGetContext", "Signature", "DecryptMsg", "EncryptMsg", "AESEncryptMsg", "AESDecryptMsg"},
	"credential":           {"NewStableAccessToken", "StableAccessToken", "GetTokenFromServerContext"},
	"miniprogram/auth":     {"NewAuth"},
	"miniprogram/business": {"NewBusiness", "GetPhoneNumberRequest"},
	"miniprogram/config":   {"Config"},
	"miniprogram/context":  {"Context"},
}

// sdkMethods are the methods of SDK objects that may be called; sdkForbidden those that must not: they take no context, lock
// without it, drop the msgid, or cache by themselves.
var (
	sdkMethods   = []string{"GetAccessTokenDirectly", "Code2SessionContext", "GetPhoneNumberWithContext"}
	sdkForbidden = []string{"Code2Session", "GetPhoneNumber", "GetPhoneNumberContext", "SendGetMsgID", "UniformSend", "GetMsgData", "GetMsg", "ListTemplates",
		"SetHTTPClient", "GetPaidUnionID", "CheckEncryptedData", "GetTokenFromServer", "SetURIModifier", "PostJSON", "HTTPGet", "HTTPPost"}
)

// The SDK is used as far as it is sound: whatever else of it is called fails here.
func TestOnlySoundSDKCalls(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	err = filepath.WalkDir(root, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		checkSDKUse(t, strings.TrimPrefix(file, root+"/"), f, used)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range sdkMethods {
		if !used[method] {
			t.Errorf("%s is allowed and not called", method)
		}
	}
}

func checkSDKUse(t *testing.T, file string, f *ast.File, used map[string]bool) {
	names := map[string]string{} // local name -> package below the SDK
	for _, imp := range f.Imports {
		pkg, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), sdkModule)
		if !ours {
			continue
		}
		if _, ok := sdkCalls[pkg]; !ok {
			t.Errorf("%s imports %s of the SDK", file, pkg)
		}
		name := pkg[strings.LastIndex(pkg, "/")+1:]
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = pkg
	}
	if len(names) == 0 {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		used[sel.Sel.Name] = true
		if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] != "" {
			if !slices.Contains(sdkCalls[names[x.Name]], sel.Sel.Name) {
				t.Errorf("%s uses %s.%s of the SDK", file, names[x.Name], sel.Sel.Name)
			}
			return true
		}
		if slices.Contains(sdkForbidden, sel.Sel.Name) {
			t.Errorf("%s calls %s", file, sel.Sel.Name)
		}
		return true
	})
}
