"""Names of files and folders that belong to no dataset."""

# Folders of macOS archives, network storage, recycle bins and file systems, and files of Windows.
_SYSTEM_NAMES = {
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "@Recently-Snapshot",
    "@Recycle",
    "@eaDir",
    "System Volume Information",
    "Thumbs.db",
    "__MACOSX",
    "desktop.ini",
    "lost+found",
}


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or created by an operating system.

    Names that start with a dot are hidden, such as `.ipynb_checkpoints` of Jupyter and `._x.png`,
    which macOS writes beside `x.png` on other file systems.
    """
    return name.startswith(".") or name in _SYSTEM_NAMES
