"""What macOS is told about the program: attnscope.spec puts it into Attnscope.app/Contents/Info.plist."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import product

SYSTEM = "13.0"
"""The oldest macOS that Qt 6.11 supports."""
SESSION = f"{product.ID}.session"
"""The type of a saved session, exported by this program."""


def info_plist() -> dict[str, Any]:
    """Keys as in Apple's "Information Property List"."""
    return {
        "CFBundleName": product.NAME,
        "CFBundleDisplayName": product.NAME,
        "CFBundleIdentifier": product.ID,
        "CFBundleShortVersionString": product.version(),
        "CFBundleVersion": product.version(),
        "CFBundlePackageType": "APPL",
        "CFBundleDevelopmentRegion": "en",
        "NSHumanReadableCopyright": f"{product.DEVELOPER}, {product.LICENCE}",
        "LSMinimumSystemVersion": SYSTEM,
        "LSApplicationCategoryType": "public.app-category.developer-tools",
        "NSHighResolutionCapable": True,
        "NSRequiresAquaSystemAppearance": False,  # dark where the system is
        "NSSupportsAutomaticGraphicsSwitching": True,
        "CFBundleDocumentTypes": [
            {
                "CFBundleTypeName": f"{product.NAME} session",
                "CFBundleTypeRole": "Editor",
                "CFBundleTypeIconFile": f"{product.COMMAND}.icns",
                "LSHandlerRank": "Owner",
                "LSItemContentTypes": [SESSION],
            }
        ],
        "UTExportedTypeDeclarations": [
            {
                "UTTypeIdentifier": SESSION,
                "UTTypeDescription": f"{product.NAME} session",
                "UTTypeConformsTo": ["public.json"],
                "UTTypeIconFile": f"{product.COMMAND}.icns",
                "UTTypeTagSpecification": {
                    "public.filename-extension": [product.SUFFIX.removeprefix(".")],
                    "public.mime-type": [product.MIME],
                },
            }
        ],
    }
