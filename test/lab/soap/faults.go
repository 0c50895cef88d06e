package main

import (
	"github.com/vmware/govmomi/vim25/types"
)

// vimFault is a fault with the text that a host puts beside it.
type vimFault struct {
	text  string
	fault types.BaseMethodFault
}

func (f *vimFault) Error() string { return f.text }

// localized is the fault as it stands in Task.info.error.
func (f *vimFault) localized() *types.LocalizedMethodFault {
	return &types.LocalizedMethodFault{Fault: f.fault, LocalizedMessage: f.text}
}

// restrictedVersion is the free licence's answer to every call that would change something.
func restrictedVersion() *vimFault {
	return &vimFault{
		text:  "Current license or ESXi version prohibits execution of the requested operation.",
		fault: &types.RestrictedVersion{},
	}
}

func invalidLogin() *vimFault {
	return &vimFault{
		text:  "Cannot complete login due to an incorrect user name or password.",
		fault: &types.InvalidLogin{},
	}
}

func notAuthenticated(object types.ManagedObjectReference) *vimFault {
	return &vimFault{
		text: "The session is not authenticated.",
		fault: &types.NotAuthenticated{
			NoPermission: types.NoPermission{Object: object, PrivilegeId: "System.View"},
		},
	}
}

func noPermission(object types.ManagedObjectReference, privilege string) *vimFault {
	return &vimFault{
		text:  "Permission to perform this operation was denied.",
		fault: &types.NoPermission{Object: object, PrivilegeId: privilege},
	}
}

func managedObjectNotFound(object types.ManagedObjectReference) *vimFault {
	return &vimFault{
		text:  "The object '" + "vim." + object.Type + ":" + object.Value + "' has already been deleted or has not been completely created",
		fault: &types.ManagedObjectNotFound{Obj: object},
	}
}

func invalidArgument(property string) *vimFault {
	return &vimFault{
		text:  "A specified parameter was not correct: " + property,
		fault: &types.InvalidArgument{InvalidProperty: property},
	}
}

func invalidRequest(text string) *vimFault {
	return &vimFault{text: text, fault: &types.InvalidRequest{}}
}

func notSupported(method string) *vimFault {
	return &vimFault{
		text:  "The operation is not supported on the object. (" + method + ")",
		fault: &types.NotSupported{},
	}
}
