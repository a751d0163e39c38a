//! What can be asked for, and who may.

/// Something that can be asked for over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its method and path")]
pub enum Endpoint {
    GetPing,
    GetTime,
    GetExchangeInfo,
    GetDepth,
    GetBookTicker,
    PostOrder,
    DeleteOrder,
    GetOrder,
    GetOpenOrders,
    DeleteOpenOrders,
    GetAllOrders,
    GetMyTrades,
    GetAccount,
    PostUserDataStream,
    PutUserDataStream,
    DeleteUserDataStream,
    PostSession,
}

/// What a request must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    None,
    /// A key.
    Key,
    /// A key and a signature.
    Signed,
}

/// All of them, with their methods and paths.
const ENDPOINTS: [(Endpoint, &str, &str); 17] = [
    (Endpoint::GetPing, "GET", "/api/v3/ping"),
    (Endpoint::GetTime, "GET", "/api/v3/time"),
    (Endpoint::GetExchangeInfo, "GET", "/api/v3/exchangeInfo"),
    (Endpoint::GetDepth, "GET", "/api/v3/depth"),
    (Endpoint::GetBookTicker, "GET", "/api/v3/ticker/bookTicker"),
    (Endpoint::PostOrder, "POST", "/api/v3/order"),
    (Endpoint::DeleteOrder, "DELETE", "/api/v3/order"),
    (Endpoint::GetOrder, "GET", "/api/v3/order"),
    (Endpoint::GetOpenOrders, "GET", "/api/v3/openOrders"),
    (Endpoint::DeleteOpenOrders, "DELETE", "/api/v3/openOrders"),
    (Endpoint::GetAllOrders, "GET", "/api/v3/allOrders"),
    (Endpoint::GetMyTrades, "GET", "/api/v3/myTrades"),
    (Endpoint::GetAccount, "GET", "/api/v3/account"),
    (Endpoint::PostUserDataStream, "POST", "/api/v3/userDataStream"),
    (Endpoint::PutUserDataStream, "PUT", "/api/v3/userDataStream"),
    (Endpoint::DeleteUserDataStream, "DELETE", "/api/v3/userDataStream"),
    (Endpoint::PostSession, "POST", "/exchange/session"),
];

impl Endpoint {
    /// What stands at `path` for `method`.
    pub fn find(method: &str, path: &str) -> Option<Self> {
        let mut all = ENDPOINTS.iter();
        all.find(|(_, at, of)| *at == method && *of == path).map(|(endpoint, ..)| *endpoint)
    }

    /// `POST /api/v3/order`.
    pub fn name(self) -> String {
        let mut all = ENDPOINTS.iter();
        let found = all.find(|(endpoint, ..)| *endpoint == self);
        found.map(|(_, method, path)| format!("{method} {path}")).unwrap_or_default()
    }

    /// What it must bring.
    pub const fn security(self) -> Security {
        match self {
            Self::GetPing
            | Self::GetTime
            | Self::GetExchangeInfo
            | Self::GetDepth
            | Self::GetBookTicker => Security::None,
            Self::PostUserDataStream | Self::PutUserDataStream | Self::DeleteUserDataStream => {
                Security::Key
            }
            Self::PostOrder
            | Self::DeleteOrder
            | Self::GetOrder
            | Self::GetOpenOrders
            | Self::DeleteOpenOrders
            | Self::GetAllOrders
            | Self::GetMyTrades
            | Self::GetAccount
            | Self::PostSession => Security::Signed,
        }
    }

    /// Whether it asks for orders or trades.
    pub const fn is_query(self) -> bool {
        matches!(
            self,
            Self::GetOrder | Self::GetOpenOrders | Self::GetAllOrders | Self::GetMyTrades
        )
    }

    /// Whether it would change something: its refusals are in the log.
    pub const fn is_command(self) -> bool {
        matches!(
            self,
            Self::PostOrder | Self::DeleteOrder | Self::DeleteOpenOrders | Self::PostSession
        )
    }
}
