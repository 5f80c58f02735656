; The Windows installer: for one person, without administrator's rights. installer.py gives the names, and writes files.nsh, whose
; macros remove exactly what was installed.

Unicode true
Target amd64-unicode
ManifestDPIAware true
SetCompressor /SOLID lzma
SetCompressorDictSize 32
RequestExecutionLevel user

!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "FileFunc.nsh"
!include "WinVer.nsh"
!include "${FILES}"

!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\${ID}"
!define APP_PATHS "Software\Microsoft\Windows\CurrentVersion\App Paths"
!define OWN_KEY "Software\${NAME}"
!define USER_DATA "$LOCALAPPDATA\${COMMAND}"
!define IS_RUNNING 2 ; exit code

Name "${NAME}"
OutFile "${TARGET}"
InstallDir "$LOCALAPPDATA\Programs\${NAME}"
InstallDirRegKey HKCU "${OWN_KEY}" "InstallDir"
BrandingText "${NAME} ${VERSION}"

VIProductVersion "${VERSION}.0"
VIFileVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "${NAME}"
VIAddVersionKey "FileDescription" "${NAME} Setup"
VIAddVersionKey "CompanyName" "${DEVELOPER}"
VIAddVersionKey "LegalCopyright" "${DEVELOPER}, ${LICENCE}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "ProductVersion" "${VERSION}"

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_ABORTWARNING
!insertmacro MUI_PAGE_LICENSE "${LICENCE_FILE}"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!define MUI_FINISHPAGE_RUN "$INSTDIR\${COMMAND}.exe"
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; A program that runs can not be opened for writing. Nothing is written.
!macro RefuseIfRuns EXE
  !define RETRY retry_${__COUNTER__}
  ${If} ${FileExists} "${EXE}"
    ${RETRY}:
    ClearErrors
    FileOpen $0 "${EXE}" a
    ${If} ${Errors}
      MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "${NAME} is running. Close it first." /SD IDCANCEL IDRETRY ${RETRY}
      SetErrorLevel ${IS_RUNNING}
      Quit
    ${EndIf}
    FileClose $0
  ${EndIf}
  !undef RETRY
!macroend

!macro RefuseIfAnyRuns FOLDER
  !insertmacro RefuseIfRuns "${FOLDER}\${COMMAND}.exe"
  !insertmacro RefuseIfRuns "${FOLDER}\${COMMAND}c.exe"
!macroend

!macro TellExplorer
  System::Call 'shell32::SHChangeNotify(i 0x08000000, i 0, p 0, p 0)' ; types of files have changed
!macroend

Function .onInit
  ${IfNot} ${AtLeastWin10}
    MessageBox MB_OK|MB_ICONSTOP "${NAME} needs Windows 10 or newer." /SD IDOK
    SetErrorLevel 1
    Quit
  ${EndIf}
FunctionEnd

; An older version is removed by its own uninstaller, which knows what it had installed. What is asked first is whether it runs.
Function RemoveOlder
  ReadRegStr $R0 HKCU "${OWN_KEY}" "InstallDir"
  ${If} $R0 != ""
  ${AndIf} ${FileExists} "$R0\uninstall.exe"
    !insertmacro RefuseIfAnyRuns "$R0"
    ExecWait '"$R0\uninstall.exe" /S _?=$R0' $1
    ${If} $1 != 0
      MessageBox MB_OK|MB_ICONSTOP "The older ${NAME} in $R0 could not be removed. Nothing was installed." /SD IDOK
      SetErrorLevel 1
      Quit
    ${EndIf}
    Delete "$R0\uninstall.exe"
    RMDir "$R0"
  ${EndIf}
FunctionEnd

Section
  !insertmacro RefuseIfAnyRuns "$INSTDIR"
  Call RemoveOlder
  SetOutPath "$INSTDIR"
  ClearErrors
  File /r "${STAGE}"
  ${If} ${Errors}
    MessageBox MB_OK|MB_ICONSTOP "Not everything could be written to $INSTDIR." /SD IDOK
    SetErrorLevel 1
    Quit
  ${EndIf}
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortCut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\${COMMAND}.exe" "" "$INSTDIR\${COMMAND}.ico" 0
  WriteRegStr HKCU "${OWN_KEY}" "InstallDir" "$INSTDIR"

  WriteRegStr HKCU "Software\Classes\${ID}" "" "${NAME} session"
  WriteRegStr HKCU "Software\Classes\${ID}\DefaultIcon" "" '"$INSTDIR\${COMMAND}.ico",0'
  WriteRegStr HKCU "Software\Classes\${ID}\shell\open\command" "" '"$INSTDIR\${COMMAND}.exe" "%1"'
  WriteRegStr HKCU "Software\Classes\${SUFFIX}" "" "${ID}"
  WriteRegStr HKCU "Software\Classes\${SUFFIX}" "Content Type" "${MIME}"
  WriteRegStr HKCU "Software\Classes\${SUFFIX}\OpenWithProgids" "${ID}" ""

  WriteRegStr HKCU "${APP_PATHS}\${COMMAND}.exe" "" "$INSTDIR\${COMMAND}.exe"
  WriteRegStr HKCU "${APP_PATHS}\${COMMAND}c.exe" "" "$INSTDIR\${COMMAND}c.exe"

  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "${NAME}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\${COMMAND}.ico"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "${DEVELOPER}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" ${SIZE_KIB}
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
  !insertmacro TellExplorer
SectionEnd

Section "un.${NAME}"
  SectionIn RO
  !insertmacro RefuseIfAnyRuns "$INSTDIR"
  SetOutPath "$TEMP" ; the folder that one stands in can not be removed
  !insertmacro RemoveInstalledFiles
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\${NAME}.lnk"

  DeleteRegKey HKCU "Software\Classes\${ID}"
  DeleteRegValue HKCU "Software\Classes\${SUFFIX}\OpenWithProgids" "${ID}"
  DeleteRegKey /ifempty HKCU "Software\Classes\${SUFFIX}\OpenWithProgids"
  ReadRegStr $0 HKCU "Software\Classes\${SUFFIX}" ""
  ${If} $0 == "${ID}" ; another program may have taken the type over
    DeleteRegValue HKCU "Software\Classes\${SUFFIX}" ""
    DeleteRegValue HKCU "Software\Classes\${SUFFIX}" "Content Type"
  ${EndIf}
  DeleteRegKey /ifempty HKCU "Software\Classes\${SUFFIX}"
  DeleteRegKey HKCU "${APP_PATHS}\${COMMAND}.exe"
  DeleteRegKey HKCU "${APP_PATHS}\${COMMAND}c.exe"
  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  DeleteRegKey HKCU "${OWN_KEY}"
  !insertmacro TellExplorer
SectionEnd

Section /o "un.Results, settings, model and add-ons" PERSONAL
  RMDir /r "${USER_DATA}"
SectionEnd

; uninstall.exe /S /PURGE: without a question, and with what the person made
Function un.onInit
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/PURGE" $1
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${PERSONAL}
  ${EndIf}
FunctionEnd
